"""Augmentation: exact, the same for the same seed, step and utterance, in training alone, and off by default."""

from __future__ import annotations

import json
import math
import shlex
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from undertone.audio.read import read_audio
from undertone.common.console import Display
from undertone.corpora.manifest import Manifest, Utterance
from undertone.downstream.model import UndertoneModel
from undertone.downstream.network import Downstream
from undertone.downstream.task import Task
from undertone.experiments.crossval import train
from undertone.scoring.predictions import Predictions
from undertone.tests.cli.commands import undertone
from undertone.training.augmentation import Augmentation
from undertone.training.augmenter import Augmenter, check_augmentation, check_cutoffs, mixed
from undertone.training.config import RunConfig
from undertone.training.settings import command_line, make_config
from undertone.training.sources import WaveSource
from undertone.training.trainer import Trainer, _Part
from undertone.upstream import load_upstream
from undertone.upstream.hf.random_weights import save_random
from undertone.upstream.types import HiddenStates, WaveBatch, one_stream

EMOTION = Task("emotion", "classification", ("angry", "happy", "neutral", "sad"))
AROUSAL = Task("arousal", "regression", ("arousal",), level="frame")


def config_of(corpus: Path, folder: Path, *words: str) -> RunConfig:
    shared = ["tasks=emotion", "head.hidden_size=8", "max_epochs=2", "batch_size=8", "device=cpu", "eval_every=100"]
    shared += ["protocol=groups", "num_folds=2", f"store={folder / 'store'}"]
    return make_config({"corpus": str(corpus)}, [*shared, *words])


@pytest.fixture(scope="module")
def plain(small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("plain") / "run"
    train(config_of(small_corpus, out.parent), out, display=Display(quiet=True))
    return out


def augmenter(seed: int = 0, **settings: object) -> Augmenter:
    return Augmenter(Augmentation(**settings), seed, 16_000, WaveSource(16_000), lambda batch: batch)


def speech_of(utterance: Utterance) -> torch.Tensor:
    return read_audio(utterance.path, 16_000, utterance.start, utterance.end)


def test_noise_has_the_ratio_and_speed_the_length_that_was_asked_for(plain: Path) -> None:
    utterance = next(iter(Manifest.load(plain / "manifest")))
    speech = speech_of(utterance)
    for snr in (0.0, 12.0):
        added = (augmenter(noise=(snr, snr), share=1.0).wave(utterance, 3) - speech).double()
        found = 10 * math.log10(float(speech.double().square().mean() / added.square().mean()))
        assert abs(found - snr) < 0.1
    lengths = [len(augmenter(speed=0.1, share=1.0).wave(utterance, step)) / len(speech) for step in range(20)]
    assert 1 / 1.1 - 0.01 <= min(lengths) < 0.97 and 1.03 < max(lengths) <= 1 / 0.9 + 0.01
    levels = [augmenter(gain=6.0, share=1.0).wave(utterance, step).norm() / speech.norm() for step in range(20)]
    decibels = [20 * math.log10(float(level)) for level in levels]
    assert -6 <= min(decibels) < -2 and 2 < max(decibels) <= 6
    chosen = [torch.equal(augmenter(gain=6.0, share=0.25).wave(utterance, step), speech) for step in range(200)]
    assert 0.6 < sum(chosen) / 200 < 0.9


def test_beyond_a_cutoff_there_is_nothing_and_what_else_is_drawn_stays(plain: Path) -> None:
    utterance = next(iter(Manifest.load(plain / "manifest")))
    noise = {"noise": (0.0, 0.0), "share": 1.0}
    cutoffs, floors = [], []
    for step in range(20):
        noisy = torch.fft.rfft(augmenter(**noise).wave(utterance, step).double())
        dull = torch.fft.rfft(augmenter(**noise, lowpass=1000.0).wave(utterance, step).double())
        kept = dull.abs() > noisy.abs().max() * 1e-5
        last = int(kept.nonzero().max())
        cutoffs.append(8000 * last / (len(noisy) - 1))
        torch.testing.assert_close(dull[: last + 1], noisy[: last + 1], rtol=1e-3, atol=1e-3)
    assert 1000 <= min(cutoffs) < 1500 and max(cutoffs) > 5000
    halves = [cutoff < (1000 * 8000) ** 0.5 for cutoff in cutoffs]  # each octave is as likely
    assert 5 <= sum(halves) <= 15
    unchanged = [torch.equal(augmenter(lowpass=1000.0, share=0.25).wave(utterance, step), speech_of(utterance))
                 for step in range(200)]  # fmt: skip
    assert 0.6 < sum(unchanged) / 200 < 0.9
    for step in range(20):
        noisy = torch.fft.rfft(augmenter(**noise).wave(utterance, step).double())
        thin = torch.fft.rfft(augmenter(**noise, highpass=400.0).wave(utterance, step).double())
        first = int((thin.abs() > noisy.abs().max() * 1e-5).nonzero().min())
        floors.append(8000 * first / (len(noisy) - 1))
        torch.testing.assert_close(thin[first:], noisy[first:], rtol=1e-3, atol=1e-3)
    assert min(floors) < 100 and 300 < max(floors) <= 410
    with pytest.raises(ValueError, match="lowpass=700 and augment.highpass=400 leave under an octave of speech"):
        check_cutoffs(Augmentation(lowpass=700.0, highpass=400.0), 16_000)
    with pytest.raises(ValueError, match=r"augment.lowpass=8000 Hz removes nothing from audio of 16000 Hz. Use less"):
        check_cutoffs(Augmentation(lowpass=8000.0), 16_000)
    with pytest.raises(ValueError, match="augment.lowpass.*should be 0 or at least 300 Hz.*2"):
        make_config({"corpus": "emodb"}, ["augment.lowpass=2"])


def test_what_is_drawn_depends_on_seed_step_and_utterance_alone(plain: Path) -> None:
    utterances = list(Manifest.load(plain / "manifest"))[:3]
    settings = {
        "noise": (5, 20),
        "speed": 0.1,
        "gain": 6.0,
        "reverb": 0.4,
        "lowpass": 2e3,
        "highpass": 400.0,
        "share": 1.0,
    }
    batch, share = augmenter(**settings)(utterances, step=7)
    assert isinstance(batch, WaveBatch) and share == 1.0
    for row, utterance in enumerate(utterances):
        alone, _ = augmenter(**settings)([utterance], step=7)
        assert torch.equal(alone.samples[0], batch.samples[row, : alone.samples.shape[1]])
    for other in (augmenter(**settings)(utterances, step=8), augmenter(seed=1, **settings)(utterances, step=7)):
        assert other[0].samples.shape != batch.samples.shape or not torch.equal(other[0].samples, batch.samples)


def test_masks_hide_neighbouring_frames_and_features(plain: Path) -> None:
    utterances = list(Manifest.load(plain / "manifest"))[:4]
    states = HiddenStates(torch.ones(4, 2, 30, 12), torch.tensor([30, 20, 2, 1]))
    source = augmenter(time_mask=8, feature_mask=4)
    hidden = {"frames": set(), "features": set()}
    for step in range(60):
        found = source._masked(states, utterances, step)
        assert states.states.min() == 1  # what the store gave is left alone
        for row, length in zip(found.states, found.lengths.tolist(), strict=True):
            frames = (row[0, :length] == 0).all(1)
            features = (row[0, :length] == 0).all(0)
            assert torch.equal(row[0], row[1])
            for gone in (frames, features):
                (places,) = gone.nonzero(as_tuple=True)
                assert len(places) < 2 or int(places[-1] - places[0]) == len(places) - 1
            hidden["frames"].add(int(frames.sum()))
            hidden["features"].add(int(features.sum()))
    assert hidden == {"frames": set(range(9)), "features": set(range(5))}


def test_mixup_mixes_the_frames_and_the_losses_alike(tmp_path: Path) -> None:
    torch.manual_seed(0)
    states, lengths = torch.randn(3, 1, 6, 5), torch.tensor([6, 4, 5])
    clean = HiddenStates(states * (torch.arange(6) < lengths[:, None])[:, None, :, None], lengths)
    batch = mixed(clean, 0.7)
    torch.testing.assert_close(batch.states[0, 0, :5], 0.7 * clean.states[0, 0, :5] + 0.3 * clean.states[2, 0, :5])
    torch.testing.assert_close(batch.states[0, 0, 5], 0.7 * clean.states[0, 0, 5])  # its partner has ended
    assert not batch.states[1, 0, 4:].any()
    utterances = [Utterance(str(row), "a.wav", emotion=EMOTION.labels[row], duration=1.0) for row in range(3)]
    model = Downstream(one_stream(1, 5), (EMOTION,), "linear", {"hidden_size": 4})
    config = make_config({"corpus": "emodb", "device": "cpu"})
    mixing = Augmenter(Augmentation(mixup=0.4), 0, 16_000, lambda given: clean, lambda given: given)
    trainer = Trainer(config, (EMOTION,), lambda given: clean, model, tmp_path, Accelerator(cpu=True), augmenter=mixing)
    trainer.objective = trainer._make_objective(utterances)
    _, share = mixing(utterances, 5)
    assert 0 < share < 1 and share == mixing(utterances, 5)[1] != mixing(utterances, 6)[1]
    part = _Part(utterances, utterances, 5, 0)
    (known,) = trainer._totals_of_parts(trainer.objective.measure(utterances, 0.0), [part])
    with trainer._output(part) as (output, weight):
        loss = trainer._loss(known, output, weight, part)
    logits = model(mixed(clean, share)).logits["emotion"]
    own, partner = torch.tensor([0, 1, 2]), torch.tensor([2, 0, 1])
    cross_entropy = torch.nn.functional.cross_entropy
    torch.testing.assert_close(loss, share * cross_entropy(logits, own) + (1 - share) * cross_entropy(logits, partner))


def test_off_changes_nothing_at_all(plain: Path, small_corpus: Path) -> None:
    out = plain.parent / "off"
    train(config_of(small_corpus, plain.parent, "augment.share=0.9"), out, display=Display(quiet=True))
    first, second = (load_file(run / "model" / "model.safetensors") for run in (plain, out))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    "words",
    [
        ("augment.noise=-20,-10", "augment.share=1"),
        ("augment.time_mask=20", "augment.feature_mask=40"),
        ("augment.mixup=0.4",),
        ("augment.gain=20", "head=linear"),
    ],
    ids=lambda words: words[0],
)
def test_training_utterances_are_changed_and_test_utterances_are_not(
    words: tuple[str, ...], plain: Path, small_corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    train(config_of(small_corpus, plain.parent, *words), out, display=Display(quiet=True))
    first, second = (load_file(run / "model" / "model.safetensors") for run in (plain, out))
    assert first.keys() != second.keys() or any(not torch.equal(first[name], second[name]) for name in first)
    predictions, model = Predictions.load(out / "predictions.parquet"), UndertoneModel.from_pretrained(out)
    utterance = Manifest.load(out / "manifest").select(predictions.ids[:1])[0]
    clean = model.predict_batch(WaveBatch.collate([speech_of(utterance)], 16_000)).logits["emotion"].softmax(-1)
    torch.testing.assert_close(clean[0], torch.from_numpy(predictions.scores["emotion"][0]), atol=2e-3, rtol=0)


def test_the_input_of_an_upstream_that_learns_is_changed_too(small_corpus: Path, tmp_path: Path) -> None:
    tiny = save_random("tiny-wav2vec2", tmp_path / "tiny")
    words = (f"upstream={tiny}", "mode=finetune", "augment.noise=0,10", "augment.mixup=0.4", "max_steps=1")
    train(config_of(small_corpus, tmp_path, *words), tmp_path / "run", display=Display(quiet=True))
    assert (tmp_path / "run" / "results.json").is_file()


def test_what_cannot_be_augmented(small_corpus: Path, tmp_path: Path) -> None:
    def check(*words: str, task: Task = EMOTION) -> None:
        check_augmentation(config_of(small_corpus, tmp_path, *words), (task,), load_upstream("fbank"))

    check("augment.mixup=0.2", "augment.speed=0.1")
    with pytest.raises(ValueError, match="speed and augment.mixup move values over time away"):
        check("augment.mixup=0.2", task=AROUSAL)
    with pytest.raises(ValueError, match="augment.time_mask masks the frames of a frozen upstream, and mode=lora"):
        check("augment.time_mask=5", "mode=lora")
    with pytest.raises(ValueError, match="augment.feature_mask masks .* head 'linear' does not train on these"):
        check("augment.feature_mask=5", "head=linear")
    with pytest.raises(ValueError, match="Head 'svm' is fitted once"):
        check_augmentation(
            make_config({"corpus": "emodb", "head": "svm"}, ["augment.gain=3"]), (EMOTION,), load_upstream("fbank")
        )
    for word, problem in (
        ("noise_files=x", "noise_files needs noise"),
        ("nose=1", "augment.nose"),
        ("gain=-1", "-1"),
    ):
        outcome = undertone("train", small_corpus, f"augment.{word}", "--out", tmp_path / "none")
        assert outcome.fails_with(problem), outcome.err


def test_the_command_line_of_a_run_makes_its_settings_again(small_corpus: Path, tmp_path: Path) -> None:
    words = ("augment.noise=[5,20]", "head=crnn", "head.strides=[[2,2],[1,2]]", "head.channels=[4,4]")
    config = config_of(small_corpus, tmp_path, *words)
    line = shlex.split(command_line(json.loads(config.model_dump_json()), tmp_path))
    given = [word for word in line if "=" in word]
    again = make_config({"corpus": str(small_corpus), "head": "crnn"}, given)
    assert again == config and "head.strides=[[2,2],[1,2]]" in given
    plain = command_line(json.loads(config_of(small_corpus, tmp_path).model_dump_json()), tmp_path)
    assert "augment" not in plain
