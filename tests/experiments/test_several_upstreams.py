"""Several upstreams of one sound: frozen, adapted and fine-tuned beside each other; trained, resumed, saved, read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from undertone import load_model
from undertone.common.console import Display
from undertone.experiments.evaluate_model import evaluate_model
from undertone.experiments.open_run import open_run
from undertone.experiments.run import Run
from undertone.experiments.run_fold import train_fold
from undertone.tests.cli.commands import undertone
from undertone.tests.experiments.test_live import learning
from undertone.training.accelerator import accelerator_of
from undertone.training.config import RunConfig, trials
from undertone.training.settings import make_config
from undertone.training.sources import WaveSource
from undertone.training.trainer import Trainer, make_optimizer
from undertone.upstream.hf.random_weights import save_random
from undertone.upstream.types import HiddenStates, StreamBatch, WaveBatch

WORDS = ["protocol=groups", "num_folds=2", "batch_size=16", "head.hidden_size=8", "max_steps=3", "store_dtype=float32"]
FROZEN, LORA = ("fusion=concat",), ("fusion=gate", "streams.ssl.mode=lora", "upstream_learning_rate=1e-2")
FINETUNE = ("fusion=attention", "streams.ssl.mode=finetune", "upstream_learning_rate=1e-2")
Opened = Callable[..., Run]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tiny upstreams with random weights, and the store."""
    folder = tmp_path_factory.mktemp("several")
    for name in ("wav2vec2", "wavlm"):
        save_random(f"tiny-{name}", folder / name)
    return folder


def config_of(corpus: Path, folder: Path, upstream: str, words: tuple[str, ...]) -> RunConfig:
    given = {"corpus": str(corpus), "upstream": upstream.format(folder)}
    return make_config(given, [*WORDS, f"store={folder / 'store'}", *words])


@pytest.fixture(scope="module")
def opened(small_corpus: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """`opened("fusion=concat")`: a run of wav2vec 2.0 and MFCCs with these words, opened once."""
    made: dict[Any, Run] = {}

    def run(*words: str, upstream: str = "ssl={}/wav2vec2+mfcc") -> Run:
        key = (upstream, *words)
        if key not in made:
            config = config_of(small_corpus, folder, upstream, words)
            made[key] = open_run(config, tmp_path_factory.mktemp("run") / "run", Display(quiet=True))
        return made[key]

    return run


def fit(run: Run, folder: Path, stop_at: int = 3) -> Trainer:
    trainer = Trainer(run.config, run.tasks, run.source, run.new_module("x"), folder, accelerator_of(run.config))
    trainer.fit(run.manifest.select(run.folds[0].train), [], 4, stop_at)
    return trainer


AVERAGE = ("head=average", "head_options={}", "head.heads={ssl: {head: linear, hidden_size: 8}, mfcc: logistic}")
MIXTURES = {
    "frozen": FROZEN,
    "lora": LORA,
    "finetune": FINETUNE,
    "late": ("fusion=late",),
    "means": ("fusion=concat", "head=linear"),
    "svm": ("fusion=concat", "head=svm", "head_options={}"),
    "average": AVERAGE,
    "average-lora": (*AVERAGE, "streams.ssl.mode=lora", "upstream_learning_rate=1e-2"),
}
STORED = {
    "lora": "ssl: none, mfcc: frames",
    "finetune": "ssl: none, mfcc: frames",
    "means": "ssl: mean, mfcc: mean",
    "svm": "ssl: mean, mfcc: mean",
    "average": "ssl: mean, mfcc: mean",
    "average-lora": "ssl: none, mfcc: mean",
}


@pytest.mark.parametrize("mixture", MIXTURES)
def test_a_fold_s_model_gives_what_its_training_gave(opened: Opened, mixture: str) -> None:
    """From the sound alone: what the trained module gave on stored states, or on those of one stream beside sound."""
    run = opened(*MIXTURES[mixture])
    train_fold(run, run.folds[0], "")
    place = run.folder.fold(run.folds[0].name)
    tested, model = run.folder.fold_predictions(run.folds[0].name), load_model(place / "model").model
    batch = WaveSource(16_000)(run.manifest.select(tested.ids[:4]))
    found = model.predict_batch(batch).logits["emotion"].softmax(-1)
    torch.testing.assert_close(found, torch.from_numpy(tested.scores["emotion"][:4]), atol=2e-5, rtol=0)
    adapters = [path.parent.name for path in place.rglob("adapter_config.json")]
    assert adapters == (["ssl"] if "lora" in mixture else [])
    for path in place.rglob("adapter_model.safetensors"):
        assert all(weight.any() for name, weight in load_file(path).items() if "lora_B" in name), "they start as zeros"
    saved = load_file(place / "model" / "model.safetensors")
    assert any(name.startswith("upstream.parts.ssl.") for name in saved) == (mixture == "finetune")
    record = json.loads((place / "fold.json").read_text())
    assert {name: len(weights) for name, weights in record["layer_weights"].items()} == {"ssl": 3, "mfcc": 1}
    assert run.stored == STORED.get(mixture, "ssl: frames, mfcc: frames")


def test_each_stream_learns_by_its_own_settings(opened: Opened, tmp_path: Path) -> None:
    words = ("streams.ssl.mode=finetune", "streams.ssl.upstream_learning_rate=1e-2", "streams.other.mode=lora")
    words += ("upstream_learning_rate=2e-2", "fusion=gate", "streams.ssl.layers=1")
    run = opened(*words, upstream="ssl={0}/wav2vec2+other={0}/wavlm+mfcc")
    batch = run.source(run.manifest.select(run.manifest.ids[:2]))
    assert batch.streams["ssl"] is batch.streams["other"] and isinstance(batch.streams["ssl"], WaveBatch)
    assert isinstance(batch.streams["mfcc"], HiddenStates)
    before = run.new_module("x")
    learns = {name.split(".")[1]: name for name in learning(before.upstream)}
    assert set(learns) == {"ssl", "other"} and ".lora_" in learns["other"] and ".lora_" not in learns["ssl"]
    assert not any("feature_extractor" in name for name in learning(before.upstream))
    rates = [(len(group["params"]), group["lr"]) for group in make_optimizer(run.config, before).param_groups]
    own = [sum(1 for name in learning(before.upstream) if f".{stream}." in f".{name}") for stream in ("ssl", "other")]
    assert [rate for _, rate in rates] == [1e-3, 0.1, 1e-2, 2e-2] and [count for count, _ in rates[2:]] == own
    assert rates[1][0] == 2  # the layer sum of `other`, and the gate; `ssl` has one layer, `mfcc` is one
    after = fit(run, tmp_path).module
    start = dict(before.named_parameters())
    moved = {name for name, weight in after.named_parameters() if not torch.equal(weight, start[name])}
    still = learning(before) - moved  # what stands after layer 1 of `ssl` gets no gradient, only weight decay
    assert moved <= learning(before) and all(".ssl." in name for name in still)
    assert all("encoder.layers.1." in name or "masked_spec" in name for name in still)
    assert after.downstream.layer_sums["ssl"].layer_weights().tolist() == [0, 1, 0]


@pytest.mark.parametrize("words", [FROZEN, LORA, FINETUNE], ids=["frozen", "lora", "finetune"])
def test_stopped_and_resumed_bit_for_bit(opened: Opened, tmp_path: Path, words: tuple[str, ...]) -> None:
    run = opened(*words)
    whole = fit(run, tmp_path / "whole").module.state_dict()
    stopped = fit(run, tmp_path / "stopped", stop_at=1).module.state_dict()
    assert any(not torch.equal(value, whole[name]) for name, value in stopped.items())
    resumed = fit(run, tmp_path / "stopped").module.state_dict()
    assert all(torch.equal(value, whole[name]) for name, value in resumed.items())


def test_the_audio_is_changed_once_for_all_streams(opened: Opened) -> None:
    """Frozen streams compute their states of the very samples that a stream that learns is given."""
    noise = ("augment.noise=0,5", "augment.share=1")
    frozen, mixed = opened(*FROZEN, *noise), opened(*LORA, *noise)
    clips = frozen.manifest.select(frozen.manifest.ids[:3])
    trainings = [run.training_of_everyone(run.config) for run in (frozen, mixed)]
    states, audio = (training.augmenter(torch.device("cpu"))(clips, 7)[0] for training in trainings)
    assert isinstance(audio, WaveBatch) and isinstance(states, StreamBatch)
    for name, part in frozen.upstream.streams.items():
        torch.testing.assert_close(states.streams[name].states, part(audio).states)
    clean = WaveSource(16_000)(clips)
    assert not torch.allclose(audio.samples, clean.samples, atol=1e-3)


def test_mixup_mixes_every_stream_by_the_same_weight(opened: Opened) -> None:
    run = opened(*LORA, "augment.mixup=0.4")
    clips = run.manifest.select(run.manifest.ids[:2])
    batch, weight = run.training_of_everyone(run.config).augmenter(torch.device("cpu"))(clips, 3)
    clean = run.source(clips)
    for name, field in (("ssl", "samples"), ("mfcc", "states")):
        found, own = getattr(batch.streams[name], field), getattr(clean.streams[name], field)
        lengths = clean.streams[name].lengths.tolist()
        size = min(lengths)
        expected = weight * own + (1 - weight) * own.flip(0)
        cut = (slice(None), slice(size)) if name == "ssl" else (slice(None), slice(None), slice(size))
        torch.testing.assert_close(found[cut], expected[cut])


@pytest.mark.parametrize(
    ("words", "upstream", "said"),
    [
        ((), None, "takes one stream, got ssl, mfcc. Say how they are joined: fusion=concat, gate, attention or late"),
        (("fusion=concat",), "mfcc", "fusion=concat joins several upstreams, got one"),
        (("fusion=gate", "head=svm", "head_options={}"), None, "finds no weights in front of it .* Use fusion=concat"),
        (("fusion=concat", "mode=lora"), None, "Stream 'mfcc': .* no weights that could learn.* streams.mfcc.mode=fro"),
        (("fusion=concat", "layers=1"), None, "streams.mfcc.layers=1: 'mfcc' has the layers 0 .* to 0"),
        (
            ("layers=best", "streams.ssl.layers=1"),
            "ssl={}/wavlm",
            "no other is given; streams.ssl.layers is. Leave",
        ),
        (("fusion=concat", "augment.time_mask=5"), None, "augment.time_mask is for one upstream without"),
        (
            ("fusion=late", "ladder=true"),
            None,
            "ladder=true reconstructs the frames of one stream. Join several",
        ),
        (("layers=best", "streams.ssl.mode=lora"), "ssl={}/wavlm", "layers=best .* with mode=lora each would be a "),
        (FROZEN, "type={}/wavlm+mfcc", "cannot be called 'type'"),
    ],
)
def test_what_cannot_be_is_refused(opened: Opened, words: tuple[str, ...], upstream: str | None, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        opened(*words, **({} if upstream is None else {"upstream": upstream}))


def test_a_sweep_over_layers_is_of_streams_without_a_layer_of_their_own(opened: Opened) -> None:
    """`mfcc` has layer 0 alone, which a sweep over the layers of `ssl` does not touch."""
    words = ("fusion=concat", "sweep.layers=0,2")
    run = opened(*words, "streams.mfcc.layers=0")
    chosen = [trial.config.of_streams() for trial in trials(run.config)]
    assert [(own["ssl"].layers, own["mfcc"].layers) for own in chosen] == [(0, 0), (2, 0)]
    with pytest.raises(ValueError, match="streams.mfcc.layers=2: 'mfcc' has the layers 0 .* to 0"):
        opened(*words)


def test_a_head_alone_is_refused_with_other_streams(opened: Opened, folder: Path, tmp_path: Path) -> None:
    """Its folder names both upstreams, their settings and what hashes of their weights say together."""
    run = opened(*FROZEN)
    training = run.training_of_everyone(run.config)
    training.save(run.new_module("x"), run.manifest.select(run.manifest.ids[:2]), tmp_path / "head")
    config = json.loads((tmp_path / "head" / "config.json").read_text())
    assert config["head_only"] and [one["stream"] for one in config["upstream"]["streams"]] == ["ssl", "mfcc"]
    load_model(tmp_path / "head")
    ssl, mfcc = config["upstream"]["streams"]
    other = [ssl | {"name": str(save_random("tiny-wav2vec2", tmp_path / "other", seed=1))}, mfcc]
    fewer = [ssl, mfcc | {"options": {"coefficients": 5}}]
    twice = [ssl, mfcc | {"stream": "ssl"}]
    for streams, said in (
        (other, "was trained on another upstream than .* weights"),
        (fewer, "do not fit their config.json"),
        (twice, "each of several streams has a name of its own"),
        ([], "streams are those of an upstream of the kind 'streams'"),
        ([ssl, {"stream": "b", "kind": "streams", "name": "b", "streams": [mfcc]}], "and no streams in it"),
    ):
        changed = config | {"upstream": config["upstream"] | {"streams": streams}}
        (tmp_path / "head" / "config.json").write_text(json.dumps(changed))
        with pytest.raises(ValueError, match=said):
            load_model(tmp_path / "head")


def test_a_ladder_on_joined_streams(opened: Opened, tmp_path: Path) -> None:
    trainer = fit(opened("fusion=concat", "ladder=true"), tmp_path)
    assert trainer.module.head.input_sizes == {"speech": 32 + 39}


def test_from_the_command_line_to_a_prediction(small_corpus: Path, folder: Path, tmp_path: Path) -> None:
    """`--upstream` twice; the model is scored, predicts, and is no class of transformers."""
    run = tmp_path / "run"
    words = [*WORDS, f"store={folder / 'store'}", "fusion=concat", "max_steps=1", "device=cpu"]
    outcome = undertone(
        "train", small_corpus, "--upstream", f"ssl={folder / 'wav2vec2'}", "--upstream", "mfcc", "--out", run, *words
    )
    assert outcome.status == 0, outcome.err
    results = json.loads((run / "results.json").read_text())
    assert results["upstream"] == f"ssl={folder / 'wav2vec2'}+mfcc" and results["upstream_weights"] == "random"
    assert "--upstream ssl=wav2vec2+mfcc" in results["training"]["command"]  # for others, without the folder
    assert undertone("report", run).status == 0
    assert "Layer weights of ssl" in (run / "report.html").read_text()
    clip = next(small_corpus.parent.rglob("*.wav"))
    assert "emotion" in undertone("predict", run, clip, "--json").out
    scored = evaluate_model(load_model(run).model, str(small_corpus), None)
    assert scored["upstream"] == results["upstream"] and scored["num_utterances"] == results["num_utterances"]
    native = undertone("export", run, "--to", "transformers", "--out", tmp_path / "native")
    assert native.fails_with("has no native shape in transformers")
