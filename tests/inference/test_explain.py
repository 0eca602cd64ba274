"""Attributions: they add up, agree with a formula and with a sum by hand, and find where the emotion is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from undertone.audio.read import AudioError, read_audio
from undertone.corpora.synthetic import Synthetic
from undertone.downstream.config import UndertoneConfig
from undertone.downstream.model import UndertoneModel, utterance_logits
from undertone.experiments.crossval import crossval
from undertone.inference.explain import _spread, explain
from undertone.inference.predict import Predictor, load_model
from undertone.tests.inference.conftest import TASKS
from undertone.training.settings import make_config
from undertone.upstream import HiddenStates, WaveBatch, load_upstream
from undertone.upstream.streams import Streams
from undertone.upstream.types import StreamBatch

pytest.importorskip("captum")


def states_of(model: UndertoneModel, file: Path) -> torch.Tensor:
    wave = read_audio(file, model.sample_rate)
    with torch.no_grad():
        return model.upstream(WaveBatch.collate([wave], model.sample_rate)).states  # (1, L, T, D)


def score(model: UndertoneModel, states: torch.Tensor, task: str, place: int) -> torch.Tensor:
    lengths = torch.full((len(states),), states.shape[2])
    logits = utterance_logits(model.downstream(HiddenStates(states, lengths)), task)  # (B, C)
    return logits[:, place] - logits.mean(1) if logits.shape[1] > 1 else logits[:, 0]


def model_with(head: str, upstream: str = "fbank") -> UndertoneModel:
    torch.manual_seed(2)
    loaded = load_upstream(upstream)
    tasks = [task.to_dict() for task in TASKS]
    config = UndertoneConfig(upstream=loaded.spec(), upstream_hash=loaded.weights_hash(), tasks=tasks, head=head)
    return UndertoneModel(config, loaded).eval()


@pytest.mark.parametrize(("task", "target"), [(None, None), ("emotion", "sad"), ("arousal", None)])
def test_it_is_the_integral_of_the_gradients(
    predictor: Predictor, files: list[Path], task: str | None, target: str | None
) -> None:
    model, file = predictor.model, files[1]
    found = explain(model, file, task, target)
    states, name = states_of(model, file), found.task.name
    place = found.task.labels.index(found.target) if found.target else 0
    assert target in (None, found.target)
    if target is None and found.target:
        assert found.target == found.prediction[name]["label"]
    assert found.score == pytest.approx(float(score(model, states, name, place).detach()), abs=1e-5)
    none = float(score(model, torch.zeros_like(states), name, place).detach())
    assert found.attributions.sum() == pytest.approx(found.score - none - found.gap, abs=1e-4)
    assert abs(found.gap) < 0.05 * max(1, abs(found.score - none))
    total, steps = torch.zeros_like(states), 200
    for step in range(steps):  # the middle of each part of the way
        point = (states * ((step + 0.5) / steps)).requires_grad_()
        total += torch.autograd.grad(score(model, point, name, place).sum(), point)[0] / steps
    by_hand = (total * states).double().sum((0, 1, 3)).numpy()
    assert len(found.attributions) == states.shape[2]
    np.testing.assert_allclose(found.attributions, by_hand, atol=0.02 * np.abs(by_hand).max())


def test_a_linear_head_has_a_formula(files: list[Path]) -> None:
    model = model_with("svm")
    head = model.downstream.head
    torch.nn.init.normal_(head.outputs.layer("emotion").weight)
    found = explain(model, files[0], "emotion")
    weight = head.outputs.layer("emotion").weight
    weight = weight[found.task.labels.index(found.target)] - weight.mean(0)
    states = states_of(model, files[0])[0, 0]  # (T, D)
    np.testing.assert_allclose(found.attributions, (states @ weight / len(states)).detach().numpy(), atol=1e-4)
    assert abs(found.gap) < 1e-3 and found.reason == "" and found.layer_weights is None


def test_several_streams_are_added_up_over_time(files: list[Path]) -> None:
    """Of a linear head each stream adds what its own frames give alone; a slower one's is divided over its time."""
    streams = Streams({"pitch": load_upstream("waveform"), "mfcc": load_upstream("mfcc")})
    config = UndertoneConfig(
        upstream=streams.spec(), tasks=[task.to_dict() for task in TASKS], head="linear", fusion="concat"
    )
    torch.manual_seed(2)
    model = UndertoneModel(config, streams).eval()
    found = explain(model, files[0], "emotion", "sad", steps=5)
    wave = read_audio(files[0], 16_000)
    with torch.no_grad():
        hidden = dict(model.upstream(WaveBatch.collate([wave], 16_000)).streams)
    assert len(found.attributions) == hidden["mfcc"].states.shape[2] > hidden["pitch"].states.shape[2]
    assert found.layer_weights is None and found.reason == ""
    place, none = found.task.labels.index("sad"), {}
    for name, one in hidden.items():
        none[name] = HiddenStates(torch.zeros_like(one.states), one.lengths)

    def total(shown: dict[str, HiddenStates]) -> float:
        with torch.no_grad():
            logits = utterance_logits(model.downstream(StreamBatch({**none, **shown})), "emotion")[0]
        return float(logits[place] - logits.mean())

    expected = sum(total({name: hidden[name]}) - total({}) for name in hidden)
    assert found.attributions.sum() == pytest.approx(expected, abs=1e-5)
    assert _spread(np.array([4.0, 2.0]), 8) == pytest.approx([1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5])
    assert _spread(np.array([3.0]), 3) == pytest.approx([1, 1, 1])


def test_one_vector_for_a_clip_has_no_moments(files: list[Path]) -> None:
    found = explain(model_with("svm", "functionals"), files[0])
    assert found.attributions is None and found.reason.startswith("The upstream functionals gives one vector for the")
    assert found.prediction["emotion"]["scores"].keys() == {"angry", "happy", "sad"}


def test_wrong_use_is_a_sentence(predictor: Predictor, files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="The model has no task 'mood'; it predicts emotion, gender, arousal"):
        explain(predictor.model, files[0], "mood")
    with pytest.raises(ValueError, match="has no class 'agry'. Did you mean 'angry'"):
        explain(predictor.model, files[0], target="agry")
    with pytest.raises(AudioError):
        explain(predictor.model, tmp_path / "none.wav")


# ---- On a model that has learned something.

RATE = 16_000


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict]]:
    root = tmp_path_factory.mktemp("synthetic") / "corpus"
    return root, list(Synthetic(seed=5, num_speakers=8, per_emotion=8).rows(root))


@pytest.fixture(scope="module")
def trained(corpus: tuple[Path, list[dict]], tmp_path_factory: pytest.TempPathFactory) -> UndertoneModel:
    out = tmp_path_factory.mktemp("explained") / "run"
    words = ["tasks=emotion", "protocol=groups", "num_folds=2", "max_epochs=15", "batch_size=16", "lr=2e-3"]
    given = {"corpus": "synthetic", "root": str(out.parent / "c"), "store": str(out.parent / "store"), "device": "cpu"}
    crossval(make_config(given, words), out)
    return load_model(out, device="cpu").model


def clip(rows: list[dict], speaker: str, emotion: str, number: int = 0) -> np.ndarray:
    own = [row for row in rows if row["speaker"] == speaker and row["emotion"] == emotion]
    return soundfile.read(own[number]["path"], dtype="float32")[0]


@pytest.mark.slow
def test_it_finds_the_second_that_holds_the_emotion(
    trained: UndertoneModel, corpus: tuple[Path, list[dict]], tmp_path: Path
) -> None:
    rows, found = corpus[1], []
    for number, speaker in enumerate(sorted({row["speaker"] for row in rows})):
        for place in range(3):
            parts = [np.resize(clip(rows, speaker, "sad", number % 8), RATE) for _ in range(3)]
            parts[place] = np.resize(clip(rows, speaker, "angry", number % 8), RATE)
            soundfile.write(tmp_path / "clip.wav", np.concatenate(parts), RATE)
            thirds = np.array_split(explain(trained, tmp_path / "clip.wav", target="angry").attributions, 3)
            found.append(int(np.argmax([third.sum() for third in thirds])) == place)
    assert np.mean(found) >= 0.9, found  # chance is a third


@pytest.mark.slow
def test_deleting_the_frames_it_ranks_highest_hurts_more_than_deleting_others(
    trained: UndertoneModel, corpus: tuple[Path, list[dict]]
) -> None:
    random, drops = np.random.default_rng(0), []
    for row in corpus[1][:: len(corpus[1]) // 50][:50]:
        found = explain(trained, row["path"])
        states, place = states_of(trained, Path(row["path"])), found.task.labels.index(found.target)
        count = round(0.1 * states.shape[2])

        def drop(deleted: np.ndarray, states=states, place=place, found=found) -> float:
            kept = np.setdiff1d(np.arange(states.shape[2]), deleted)
            with torch.no_grad():
                return found.score - float(score(trained, states[:, :, kept], "emotion", place))

        chosen = drop(np.argsort(-found.attributions)[:count])
        others = [drop(random.choice(states.shape[2], count, replace=False)) for _ in range(5)]
        drops.append((chosen, np.mean(others)))
    assert len(drops) == 50
    ours, theirs = np.mean(drops, axis=0)
    assert ours > theirs and np.mean([one > two for one, two in drops]) > 0.8, (ours, theirs)
