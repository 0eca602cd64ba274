"""A pretraining from the command to a run that uses it: resumed, refused, marked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file
from transformers import AutoFeatureExtractor, AutoModel

from undertone.common.console import Display
from undertone.corpora.synthetic import Synthetic
from undertone.pretraining.pretrain import PretrainingLoop, perplexity, pretrain
from undertone.pretraining.record import FILE_NAME
from undertone.pretraining.settings import make_settings
from undertone.pretraining.units import KMeansUnits, MelUnits, at_frames
from undertone.tests.cli.commands import undertone
from undertone.upstream import WaveBatch, load_upstream
from undertone.upstream.acoustic.mfcc import Mfcc
from undertone.upstream.hf.random_weights import save_random

QUIET = Display(quiet=True)
TINY = ("max_steps=6", "log_every=2", "batch_size=4", "crop=0.6", "num_units=8", "device=cpu", "learning_rate=1e-3")


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 12 clips of about a second, without labels."""
    folder = tmp_path_factory.mktemp("speech")
    list(Synthetic(seed=3, num_speakers=3, per_emotion=1).rows(folder))
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random("tiny-wav2vec2", tmp_path_factory.mktemp("base") / "tiny")


def settings_of(speech: Path, base: Path | None, *words: str, **given: Any):
    values = {"corpora": (str(speech),), "upstream": None if base is None else str(base)} | given
    return make_settings(values, [*TINY, *words])


@pytest.mark.parametrize(
    ("objective", "architecture"),
    [
        ("units", "tiny-wav2vec2"),
        ("workers", "tiny-lasr"),
        pytest.param("workers", "tiny-wav2vec2", marks=pytest.mark.slow),
        pytest.param("contrastive", "tiny-wav2vec2", marks=pytest.mark.slow),
    ],
)
def test_interrupted_at_any_update_it_ends_with_the_same_bits(
    speech: Path, tmp_path: Path, objective: str, architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = save_random(architecture, tmp_path / "base")
    settings = settings_of(speech, base, f"objective={objective}", "targets=mfcc", "augment.noise=5,20")
    whole = pretrain(settings, tmp_path / "whole", display=QUIET)
    update = PretrainingLoop._update

    def dies(self: PretrainingLoop, batch: Any, step: int) -> Any:
        if step == 3:
            raise KeyboardInterrupt
        return update(self, batch, step)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(PretrainingLoop, "_update", dies)
        pretrain(settings, tmp_path / "resumed", display=QUIET)
    assert not (tmp_path / "resumed" / "config.json").exists()
    resumed = pretrain(settings, tmp_path / "resumed", display=QUIET)
    first, second = (load_file(folder / "model.safetensors") for folder in (whole, resumed))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    records = [json.loads((folder / FILE_NAME).read_text()) for folder in (whole, resumed)]
    assert records[0] == records[1] and [one["step"] for one in records[0]["history"]] == [2, 4, 6]
    start = load_upstream(str(base)).model.state_dict()
    assert any(not torch.equal(first[name], start[name]) for name in first), "it learned something"
    with pytest.raises(ValueError, match="other settings: max_steps was 6, now 7. Choose another --out"):
        pretrain(settings.model_copy(update={"max_steps": 7}), whole, display=QUIET)


def test_the_result_is_an_ordinary_folder(speech: Path, tmp_path: Path) -> None:
    words = ("--size", "tiny", "--out", tmp_path / "mine", "--store", tmp_path / "store", *TINY, "max_steps=2")
    words = (*words, "objective=workers")
    outcome = undertone("pretrain", speech, *words)
    assert outcome.status == 0, outcome.err
    ours = load_upstream(str(tmp_path / "mine"))
    assert ours.num_layers == 7 and sum(weight.numel() for weight in ours.parameters()) < 3_000_000
    assert not ours.random_weights
    wave = 0.1 * torch.randn(16_000, generator=torch.Generator().manual_seed(0))
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path / "mine")
    features = extractor(wave.numpy(), sampling_rate=16_000, return_attention_mask=True)
    theirs = AutoModel.from_pretrained(tmp_path / "mine").eval()
    with torch.no_grad():
        found = theirs(torch.tensor(np.array(features["input_features"]))).last_hidden_state
        states = ours(WaveBatch.collate([wave], 16_000)).states[:, -1]
    torch.testing.assert_close(found, states, atol=1e-4, rtol=1e-3)
    card = (tmp_path / "mine" / "README.md").read_text()
    assert "masked prediction of 8 units (mel) and regression of timbre, loudness and voice around every" in card
    assert "2 updates" in card and "on 12 utterances" in card, card
    started = tmp_path / "mine" / "training" / "settings.json"
    before = json.loads(started.read_text())
    started.write_text(json.dumps(before | {"model": before["model"] | {"dropout": 0.1}}))  # as of another version
    again = undertone("pretrain", speech, *words)
    assert again.status == 2 and "other settings: model was" in again.err and "Choose another --out" in again.err
    assert (tmp_path / "mine" / "pretraining.png").stat().st_size > 1000


@pytest.mark.slow
def test_the_loss_falls(speech: Path, tmp_path: Path) -> None:
    base = save_random("tiny-w2v-bert", tmp_path / "base")
    settings = settings_of(speech, base, "max_steps=60", "log_every=15", "learning_rate=3e-3", "targets=mfcc")
    record = json.loads((pretrain(settings, tmp_path / "out", display=QUIET) / FILE_NAME).read_text())
    first, *_, last = record["history"]
    assert last["loss"] < first["loss"] - 0.15 and last["accuracy"] > first["accuracy"] + 0.08
    assert all(1 <= one["predicted_perplexity"] <= 8 for one in record["history"])


def test_lora_changes_the_weights_that_it_adapts_alone(speech: Path, base: Path, tmp_path: Path) -> None:
    settings = settings_of(speech, base, "mode=lora", "lora_rank=2", "targets=layer:1")
    tuned = load_file(pretrain(settings, tmp_path / "out", display=QUIET) / "model.safetensors")
    start = load_upstream(str(base)).model.state_dict()
    changed = {name for name in tuned if not torch.equal(tuned[name], start[name])}
    assert changed and all(name.endswith(("q_proj.weight", "v_proj.weight")) for name in changed)


def test_folds_whose_test_speakers_it_was_trained_on_are_refused_or_marked(
    small_corpus: Path, base: Path, tmp_path: Path
) -> None:
    def settings(*words: str, **given: Any):
        return settings_of(small_corpus, base, *words, protocol="speaker", max_steps=1, **given)

    with pytest.raises(
        ValueError, match=r"Every speaker of table is a test speaker.*Give --fold table:.*--transductive"
    ):
        pretrain(settings(), tmp_path / "none", display=QUIET)
    with pytest.raises(ValueError, match="Every speaker of table is a test speaker"):
        pretrain(settings(fold=("nowhere",)), tmp_path / "none", display=QUIET)
    folds = undertone("train", small_corpus, "--protocol", "speaker", "--fold", "nowhere", "--out", tmp_path / "x").err
    name = folds.split("the folds are: ")[1].split(",")[0].strip()
    out = pretrain(settings(fold=(name,)), tmp_path / "one", display=QUIET)
    record = json.loads((out / FILE_NAME).read_text())
    assert any(f"test speakers of fold {name} excluded" in note for note in record["notes"])
    assert name not in json.dumps(record["speakers"]), "no names of speakers"
    run = ("--protocol", "speaker", "--upstream", out, "--head", "linear", "--store", tmp_path / "store", "device=cpu")
    run = (*run, "max_epochs=1", "tasks=emotion")
    outcome = undertone("crossval", small_corpus, *run, "--out", tmp_path / "run")
    assert outcome.fails_with("pretrained on audio of the test speakers of", "undertone train --fold", "--allow-leak")
    beside = ("--upstream", f"ssl={out}", "--upstream", "mfcc", "fusion=concat", "--head", "linear", "tasks=emotion")
    several = undertone("crossval", small_corpus, "--protocol", "speaker", *beside, "--out", tmp_path / "several")
    assert several.fails_with("pretrained on audio of the test speakers of")
    marked = undertone("crossval", small_corpus, *run, "--allow-leak", "--out", tmp_path / "run")
    assert marked.status == 0 and "TRANSDUCTIVE: upstream one was pretrained on audio" in marked.err
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert any(note.startswith("TRANSDUCTIVE") for note in results["warnings"])


def test_units_are_sklearns_clusters_and_random_codes(speech: Path) -> None:
    files = sorted(speech.rglob("*.wav"))
    waves = [torch.from_numpy(soundfile.read(file, dtype="float32")[0]) for file in files]
    units = KMeansUnits(Mfcc(), 5)
    units.fit(((wave, 16_000) for wave in waves), 0, lambda done: None)
    frames = torch.cat([Mfcc()(WaveBatch.collate([wave], 16_000)).states[0, 0] for wave in waves])
    distances = ((frames[:, None] - units.centres) ** 2).sum(-1)
    assert torch.equal(units.classify(frames), distances.argmin(1)) and len(units.classify(frames).unique()) == 5
    mel = MelUnits(64, 0)
    found = mel(waves[0], 16_000, 30)
    assert found.shape == (30,) and torch.equal(found, MelUnits(64, 0)(waves[0], 16_000, 30))
    assert not torch.equal(found, MelUnits(64, 1)(waves[0], 16_000, 30))
    assert torch.equal(found, mel(waves[0] * 0.5, 16_000, 30)), "the level of an utterance is normalised away"
    with pytest.raises(ValueError, match="10 units need as many frames, got 0"):
        KMeansUnits(Mfcc(), 10).fit(iter(()), 0, lambda done: None)


def test_features_are_taken_at_the_time_of_the_models_frames() -> None:
    ramp = torch.arange(100.0)[:, None]
    assert at_frames(ramp, 50)[:, 0].tolist() == [2.0 * k + 1 for k in range(50)]
    assert at_frames(ramp[:1], 3)[:, 0].tolist() == [0, 0, 0]


def test_perplexity_counts_the_classes_in_even_use() -> None:
    assert perplexity(torch.tensor([5, 5, 5, 5, 0])) == pytest.approx(4)
    assert perplexity(torch.tensor([7, 0])) == pytest.approx(1) and perplexity(torch.zeros(3)) == pytest.approx(1)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["targets=wave"], "targets must be mfcc, mel or layer:N, such as layer:9, got 'wave'"),
        (["max_step=3"], "Unknown setting 'max_step'. Did you mean 'max_steps'"),
        (["targets=layer:7"], "has the layers 0 to 2"),
        (["augment.lowpass=9000"], "augment.lowpass=9000 Hz removes nothing from audio of 16000 Hz"),
        (["augment.mixup=0.2"], "augment takes speed, noise, reverb, gain, lowpass and highpass here"),
        (["size=tiny"], "give --upstream ID to continue a model, or --size tiny"),
        (["fold=x"], "fold"),
        (["steps"], "Expected key=value, got 'steps'"),
    ],
)
def test_settings_that_cannot_be(speech: Path, base: Path, tmp_path: Path, words: list[str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        pretrain(settings_of(speech, base, *words), tmp_path / "out", display=QUIET)
