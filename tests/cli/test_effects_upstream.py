"""Every setting of an upstream that learns does what it says, on a tiny wav2vec 2.0."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch.nn.modules.module import register_module_forward_pre_hook

from undertone.tests.cli.runs import LAST, Train, distance, rows_of, weights, write_table
from undertone.upstream.hf.random_weights import save_random

BLOCK = "upstream.model.encoder.layers.{}."
FRONT_END = "upstream.model.feature_extractor."
WORDS = ("head=linear", "head.hidden_size=8", "batch_size=4", "max_steps=2", "warmup=0", LAST)


@pytest.fixture(scope="module")
def learn(trained: Train, small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`learn("mode=lora")`: the run of two updates on a quarter of the small corpus, the same for the same words."""
    folder = tmp_path_factory.mktemp("learn")
    save_random("tiny-wav2vec2", folder / "upstream")
    table = write_table(folder / "few.csv", [row for row in rows_of(small_corpus) if row["file"].endswith("_01.wav")])
    return lambda *words: trained(f"upstream={folder / 'upstream'}", *WORDS, *words, corpus=table)


Learn = Callable[..., Path]


def adapter(run: Path) -> Path:
    return next(run.glob("folds/*/model/adapter"))


def test_mode_is_what_of_the_upstream_learns(learn: Learn) -> None:
    finetuned, lora = learn("mode=finetune"), learn("mode=lora", "upstream_learning_rate=0.01")
    assert distance(learn(), learn("mode=finetune", "upstream_learning_rate=1e-12"), "upstream.") < 1e-9
    assert distance(learn(), finetuned, "upstream.") > 1e-6
    assert distance(learn(), lora, "attention.q_proj.weight") > 1e-6
    assert distance(learn(), lora, "feed_forward") == 0
    assert adapter(lora).is_dir() and not list(finetuned.rglob("adapter"))


def test_train_front_end_trains_the_convolutions(learn: Learn) -> None:
    assert distance(learn(), learn("mode=finetune"), FRONT_END) == 0
    assert distance(learn(), learn("mode=finetune", "train_front_end=true"), FRONT_END) > 0


def test_top_layers_leaves_the_lower_blocks_as_they_are(learn: Learn) -> None:
    run = learn("mode=finetune", "top_layers=1")
    assert distance(learn(), run, BLOCK.format(0)) == 0
    assert distance(learn(), run, BLOCK.format(1)) > 0
    assert distance(learn(), learn("mode=finetune"), BLOCK.format(0)) > 0


@pytest.mark.slow
def test_upstream_learning_rate_is_the_upstreams_own(learn: Learn) -> None:
    slow, fast = (
        learn("mode=finetune", "upstream_learning_rate=1e-5"),
        learn("mode=finetune", "upstream_learning_rate=1e-3"),
    )
    assert distance(learn(), fast, BLOCK.format(1)) > 20 * distance(learn(), slow, BLOCK.format(1)) > 0
    assert distance(slow, fast, "downstream.") < distance(slow, learn("mode=finetune", "lr=0.1"), "downstream.")


def test_lora_rank_is_the_size_of_the_adapters(learn: Learn) -> None:
    (file,) = adapter(learn("mode=lora", "lora_rank=3")).glob("*.safetensors")
    assert {value.shape[0] for name, value in load_file(file).items() if "lora_A" in name} == {3}


@pytest.mark.slow
def test_lora_alpha_scales_the_adapters(learn: Learn) -> None:
    """The adapters start at zero and AdamW's first steps are of one size, so that what is merged grows with alpha."""
    words = ("mode=lora", "upstream_learning_rate=0.001")
    small, large = learn(*words, "lora_alpha=8"), learn(*words, "lora_alpha=80")
    name = "attention.q_proj.weight"
    assert distance(learn(), large, name) > 5 * distance(learn(), small, name) > 0
    assert json.loads((adapter(large) / "adapter_config.json").read_text())["lora_alpha"] == 80


def test_lora_dropout_is_dropped_in_training(learn: Learn) -> None:
    words = ("mode=lora", "upstream_learning_rate=0.01")
    assert distance(learn(*words, "lora_dropout=0.5"), learn(*words)) > 1e-5


@pytest.mark.slow
def test_gradient_checkpointing_computes_each_block_twice_and_gives_the_same(learn: Learn) -> None:
    def blocks_run(*words: str) -> tuple[Path, int]:
        count = 0

        def count_feed_forward(module: object, *_: object) -> None:  # each block has one
            nonlocal count
            count += type(module).__name__ == "Wav2Vec2FeedForward" and module.training  # type: ignore[attr-defined]

        hook = register_module_forward_pre_hook(count_feed_forward)
        try:
            return learn("mode=finetune", "upstream_learning_rate=1e-3", "seed=7", *words), count
        finally:
            hook.remove()

    once, calls = blocks_run()
    twice, doubled = blocks_run("gradient_checkpointing=true")
    assert doubled == 2 * calls > 0
    assert distance(once, twice) < 1e-5
    assert weights(once).keys() == weights(twice).keys()


STREAMS = ("upstream=mfcc+fbank", "head=linear", "head.hidden_size=8", "max_steps=2", "batch_size=8", LAST)


def test_fusion_is_how_streams_are_joined(trained: Train) -> None:
    concat, gate, late = (trained(*STREAMS, f"fusion={fusion}") for fusion in ("concat", "gate", "late"))
    sizes = {sum(value.numel() for value in weights(run).values()) for run in (concat, gate, late)}
    assert len(sizes) == 3, "each has layers of its own"


def test_alone_first_starts_from_what_each_stream_has_learned_alone(trained: Train) -> None:
    words = (*STREAMS, "fusion=late")
    assert distance(trained(*words), trained(*words, "alone_first=true"), "heads.fbank") > 1e-6


def test_streams_are_what_one_of_several_has_of_its_own(learn: Learn) -> None:
    upstream = json.loads((learn() / "config.json").read_text())["upstream"]
    words = (f"upstream=ssl={upstream}+mfcc", "fusion=concat")
    first, last = (learn(*words, f"streams.ssl.layers={layer}") for layer in (0, 2))
    name = "layer_sum.ssl.logits"
    assert {run: int(weights(run)[f"downstream.{name}"].argmax()) for run in (first, last)} == {first: 0, last: 2}
