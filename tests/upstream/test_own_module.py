"""The example of a custom upstream in docs/upstreams.md: short, and true to the contract."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from undertone.upstream import WaveBatch, build_upstream, load_upstream

PAGE = (Path(__file__).parents[2] / "docs" / "upstreams.md").read_text("utf-8")
RATE = 16_000


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("own") / "my_upstream.py"
    [source] = re.findall(r"```python\n(.*?)```", PAGE, flags=re.S)
    path.write_text(source)
    assert len(source.splitlines()) < 50 and sum(bool(line.strip()) for line in source.splitlines()) < 40
    return str(path)


def noise(num_samples: int, seed: int) -> torch.Tensor:
    return 0.1 * torch.randn(num_samples, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def test_the_contract(file: str) -> None:
    upstream, waves = load_upstream(file), [noise(size, seed) for seed, size in enumerate((100, 400, 8000, 20_001))]
    together = upstream(WaveBatch.collate(waves, RATE))
    lengths = torch.tensor([len(wave) for wave in waves])
    assert together.lengths.tolist() == upstream.frame_lengths(lengths).tolist()
    assert together.states.shape == (4, upstream.num_layers, int(together.lengths.max()), upstream.hidden_size)
    for wave, states in zip(waves, together.states, strict=True):
        alone = upstream(WaveBatch.collate([wave], RATE)).states[0]
        torch.testing.assert_close(states[:, : alone.shape[1]], alone, rtol=0, atol=1e-5)
        assert not states[:, alone.shape[1] :].any()


def test_weights_are_an_option_and_decide_the_fingerprint(file: str, tmp_path) -> None:
    upstream = load_upstream(file)
    save_file({name: value + 1 for name, value in upstream.net.state_dict().items()}, tmp_path / "net.safetensors")
    other = load_upstream(file, options={"weights": str(tmp_path / "net.safetensors")})
    assert upstream.fingerprint() == load_upstream(file).fingerprint() != other.fingerprint()
    assert build_upstream(other.spec(), allow=(file,)).fingerprint() == other.fingerprint()


@pytest.mark.parametrize("name", ["hubert_base_ls960.pt", "checkpoints/emotion2vec_base.pt", "./s3prl.ckpt"])
def test_a_checkpoint_of_fairseq_is_a_sentence(name: str) -> None:
    with pytest.raises(
        ValueError, match="is one file of weights, as fairseq, s3prl and FunASR write.*docs/upstreams.md"
    ):
        load_upstream(name)
