"""int8: the integers' own sums, whatever shares a batch, close in every layer; from the command line, and refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from undertone.tests.cli.commands import undertone
from undertone.tests.cli.runs import fold, weights
from undertone.training.settings import make_config
from undertone.upstream import WaveBatch, load_upstream
from undertone.upstream.hf.random_weights import ARCHITECTURES
from undertone.upstream.linear_layers import has_int8, int8_layers
from undertone.upstream.precision import frame_errors

pytestmark = pytest.mark.skipif(not has_int8(), reason="torch has no integer products of oneDNN here")
CPU = torch.device("cpu")
TINY = [name for name in ARCHITECTURES if name.startswith("tiny")]


def in_numpy(layer: nn.Linear, rows: np.ndarray) -> np.ndarray:
    """The layer by the definition: integers of 7 and 8 bits, multiplied in int64."""
    weight = layer.weight.detach().numpy()
    scales = (np.abs(weight).max(1) / np.float32(127)).astype(np.float32)
    scale = (np.abs(rows).max(1, keepdims=True) / np.float32(63)).astype(np.float32)
    integers = np.round(rows / scale).astype(np.int64) @ np.round(weight / scales[:, None]).astype(np.int64).T
    return integers * scale.astype(float) * scales + layer.bias.detach().numpy()


@pytest.mark.parametrize("sizes", [(64, 32), (768, 3072), (33, 7)])
def test_a_layer_is_the_sum_of_its_integers_without_overflow(sizes: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer, rows = nn.Linear(*sizes), torch.randn(2, 9, sizes[0])
    rows[0, 0, 0], rows[1, 3] = 1e4, 1.0  # an outlier costs its own frame alone; equal signs make the largest sums
    layer.weight.data[0] = layer.weight.data[0].abs().max()
    with int8_layers(nn.Sequential(layer)), torch.inference_mode():
        found = layer(rows)
    expected = in_numpy(layer, rows.flatten(0, 1).numpy()).reshape(found.shape)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    assert "forward" not in layer.__dict__


@pytest.mark.parametrize("architecture", TINY)
def test_it_is_close_in_every_frame_of_every_layer(tiny: Callable[[str], Path], architecture: str) -> None:
    upstream = load_upstream(str(tiny(architecture))).eval()
    noise = 0.1 * torch.randn(8000, generator=torch.Generator().manual_seed(0))
    errors = frame_errors(upstream, noise, CPU, "int8")
    assert errors.shape[0] == upstream.num_layers and errors.max() < 0.1


def test_an_utterance_is_the_same_alone_and_in_a_batch(tiny: Callable[[str], Path]) -> None:
    upstream = load_upstream(str(tiny("tiny-wav2vec2"))).eval()
    torch.manual_seed(0)
    waves = [0.1 * torch.randn(length) for length in (4000, 16_000, 9000)]
    with int8_layers(upstream), torch.inference_mode():
        together = upstream(WaveBatch.collate(waves, 16_000))
        for row, wave in enumerate(waves):
            alone = upstream(WaveBatch.collate([wave], 16_000)).states[0]
            torch.testing.assert_close(together.states[row, :, : alone.shape[1]], alone, rtol=1e-4, atol=1e-4)


def test_from_the_command_line_stored_and_computed_again(
    small_corpus: Path, tmp_path: Path, tiny: Callable[[str], Path]
) -> None:
    words = ("--upstream", tiny("tiny-wav2vec2"), "--head", "attention", "--fold", "F1", "--store", tmp_path / "store")
    words = (*words, "tasks=emotion", "max_steps=2", "batch_size=999", "device=cpu", "store_dtype=float32")
    found = {}
    for name, more in {
        "stored": ("mixed_precision=int8",), "computed": ("mixed_precision=int8", "store_budget=0"), "exact": (),
    }.items():  # fmt: skip
        outcome = undertone("train", small_corpus, "--out", tmp_path / name, *words, *more)
        assert outcome.status == 0, outcome.err
        found[name] = weights(tmp_path / name)
        assert fold(tmp_path / name)["num_test"] > 0
    for name, value in found["stored"].items():
        np.testing.assert_allclose(value, found["computed"][name], rtol=0, atol=2e-3, err_msg=name)
    assert any((value != found["exact"][name]).any() for name, value in found["stored"].items())
    assert len(list((tmp_path / "store").glob("*/*.safetensors"))) >= 2  # a store of its own


def test_weights_that_learn_are_refused(small_corpus: Path) -> None:
    for mode in ("finetune", "lora"):
        with pytest.raises(ValueError, match=f"int8 is for a frozen upstream, and mode={mode} trains its weights"):
            make_config({"corpus": str(small_corpus)}, ["upstream=tiny", f"mode={mode}", "mixed_precision=int8"])
