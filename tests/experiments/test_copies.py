"""Augmented copies, each computed once: a fitted head as scikit-learn fits them, a trained one as without a store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from undertone.audio.read import read_audio
from undertone.common.console import Display
from undertone.corpora import load_corpus
from undertone.corpora.manifest import Manifest, Utterance
from undertone.corpora.prepare import prepare_corpus
from undertone.tests.cli.commands import undertone
from undertone.tests.cli.runs import fold, weights
from undertone.training.augmentation import Augmentation
from undertone.training.augmenter import Augmenter, changed_copies
from undertone.training.sources import WaveSource
from undertone.upstream import WaveBatch, load_upstream
from undertone.upstream.store.store import Store

SETTINGS = {"speed": 0.2, "gain": 6.0, "share": 1.0}
HEAD = ("--upstream", "functionals", "--head", "svm", "device=cpu")
WORDS = (*HEAD, "--fold", "F1", "head.C=0.001")
AUGMENT = ("augment.speed=0.2", "augment.gain=6", "augment.share=1", "augment.copies=2")


def trained(corpus: Path, out: Path, *words: str) -> Path:
    outcome = undertone("train", corpus, "--out", out, "--store", out.parent / "store", *WORDS, *words)
    assert outcome.status == 0, outcome.err
    return out


def vectors(utterances: list[Utterance], augmenter: Augmenter, step: int) -> np.ndarray:
    upstream, found = load_upstream("functionals"), []
    for item in utterances:
        found.append(upstream(WaveBatch.collate([augmenter.wave(item, step)], 16_000)).states.flatten().numpy())
    return np.stack(found).astype(float)


def test_the_head_is_fitted_on_the_utterances_and_their_copies(small_corpus: Path, tmp_path: Path) -> None:
    out = trained(small_corpus, tmp_path / "run", *AUGMENT, "tasks=emotion")
    train = [item for item in Manifest.load(out / "manifest") if item.speaker != "F1"]
    augmenter = Augmenter(Augmentation(**SETTINGS), 0, 16_000, WaveSource(16_000), lambda batch: batch)
    still = Augmenter(Augmentation(), 0, 16_000, WaveSource(16_000), lambda batch: batch)
    rows = np.concatenate([vectors(train, still, 0), vectors(train, augmenter, 1), vectors(train, augmenter, 2)])
    labels = [item.emotion for item in train] * 3
    scaler = StandardScaler().fit(rows)
    model = LinearSVC(C=0.001, random_state=0, tol=1e-8, max_iter=1_000_000).fit(scaler.transform(rows), labels)
    (found,) = [value for name, value in weights(out).items() if name.endswith("emotion.weight")]
    np.testing.assert_allclose(found, model.coef_, atol=1e-3 * np.abs(model.coef_).max())
    plain = trained(small_corpus, tmp_path / "plain", "tasks=emotion")
    assert any((weights(out)[name] != value).any() for name, value in weights(plain).items())
    assert fold(out)["num_train"] == fold(plain)["num_train"]  # copies are no utterances


def test_copies_are_stored_by_what_they_sound_like(small_corpus: Path, tmp_path: Path) -> None:
    def stored() -> Store:
        return Store(tmp_path / "store", load_upstream("functionals"), "mean")

    out = trained(small_corpus, tmp_path / "run", *AUGMENT, "tasks=emotion")
    utterances = list(Manifest.load(out / "manifest"))
    learned = [item for item in utterances if item.speaker != "F1"]
    first = stored()
    assert len(first) == len(utterances) + 2 * len(learned)
    again = trained(small_corpus, tmp_path / "again", *AUGMENT, "tasks=emotion", "head.C=0.002")
    assert len(stored()) == len(first) and list(stored().folder.glob("*.safetensors")) == list(
        first.folder.glob("*.safetensors")
    )
    assert (weights(out)["downstream.head.mean"] == weights(again)["downstream.head.mean"]).all()

    def copies(seed: int, number: int) -> list[Utterance]:
        settings = Augmentation(**SETTINGS)
        return changed_copies(Augmenter(settings, seed, 16_000, WaveSource(16_000)), learned, number)

    augmenter = Augmenter(Augmentation(**SETTINGS), 0, 16_000, WaveSource(16_000))
    for number in (1, 2):
        assert [copy.id for copy in copies(0, number)] == [item.id for item in learned]
        assert not first.missing(copy.audio_hash for copy in copies(0, number))
        alone = vectors(learned[:1], augmenter, number)[0]
        assert (first.get(copies(0, number)[0].audio_hash).flatten().numpy() == alone).all()
    for seed, number in ((1, 1), (0, 3)):
        assert len(first.missing(copy.audio_hash for copy in copies(seed, number))) == len(learned)


TRAINED = ("--upstream", "logmel", "tasks=emotion", "max_steps=3", "batch_size=999", "device=cpu", "--fold", "F1")


@pytest.mark.parametrize("head", [("linear",), ("attention", "head.hidden_size=8", "augment.time_mask=5")])
def test_a_trained_head_learns_the_same_from_stored_copies_as_from_computed_ones(
    small_corpus: Path, tmp_path: Path, head: tuple[str, ...]
) -> None:
    found = []
    for name, words in (("stored", ()), ("computed", ("store_budget=0",)), ("changing", ("augment.copies=0",))):
        store = ("--store", tmp_path / name / "store", "store_dtype=float32")
        words = (*TRAINED, "--head", *head, *store, *AUGMENT, *words)
        outcome = undertone("train", small_corpus, "--out", tmp_path / name / "run", *words)
        assert outcome.status == 0, outcome.err
        found.append(weights(tmp_path / name / "run"))
    stored, computed, changing = found
    for name, value in stored.items():
        np.testing.assert_allclose(value, computed[name], rtol=0, atol=1e-5, err_msg=name)
    assert any(np.abs(value - changing[name]).max() > 1e-4 for name, value in stored.items())
    out = tmp_path / "stored" / "run"
    kind = "mean" if head == ("linear",) else "frames"
    store = Store(tmp_path / "stored" / "store", load_upstream("logmel"), kind, "float32")  # type: ignore[arg-type]
    assert len(store) == len(list(Manifest.load(out / "manifest"))) + 2 * fold(out)["num_train"]


def test_an_update_takes_the_utterance_or_one_of_its_copies_as_likely(small_corpus: Path) -> None:
    utterance = next(iter(prepare_corpus(load_corpus(str(small_corpus)), None, Display(quiet=True)).manifest))
    augmenter = Augmenter(Augmentation(**SETTINGS, copies=2), 0, 16_000, WaveSource(16_000))
    versions = [augmenter.wave(utterance, number) for number in range(3)]
    assert torch.equal(versions[0], read_audio(utterance.path, 16_000, utterance.start, utterance.end))
    counts = [0, 0, 0]
    for step in range(300):
        batch, _ = augmenter([utterance], step)
        (same,) = [number for number, wave in enumerate(versions) if torch.equal(batch.samples[0], wave)]
        counts[same] += 1
    assert min(counts) > 75 and max(counts) < 125


def test_frames_of_copies_count_in_the_budget(small_corpus: Path, tmp_path: Path) -> None:
    words = (*TRAINED, "--head", "attention", "--store", tmp_path / "store", *AUGMENT)
    outcome = undertone("train", small_corpus, "--out", tmp_path / "run", *words, "store_budget=1")
    assert outcome.status == 0 and "copies need" in outcome.out + outcome.err
    assert "nothing is stored" in outcome.out + outcome.err


def test_the_preset_contours_from_a_corpus_to_a_prediction(small_corpus: Path, tmp_path: Path) -> None:
    words = ("--system", "contours", "--fold", "F1", "device=cpu", "--store", tmp_path / "store")
    outcome = undertone("train", small_corpus, "--out", tmp_path / "run", *words, "sweep.head.C=1e-3,1e-2")
    assert outcome.status == 0, outcome.err
    assert all(C in (1e-3, 1e-2) for C in fold(tmp_path / "run")["chosen"]["head.C"].values())
    clip = next(small_corpus.parent.rglob("*.wav"))
    answer = undertone("predict", tmp_path / "run", clip)
    assert answer.status == 0 and "emotion" in answer.out, answer.err


@pytest.mark.parametrize(
    "words, message",
    [
        (("augment.speed=0.1",), "Say how many augmented copies of each utterance it is also fitted on"),
        (("augment.copies=2",), "augment.copies=2 needs a change of the audio"),
        (("augment.speed=0.1", "augment.copies=2", "augment.mixup=0.2"), "augment.mixup changes batches"),
    ],
)
def test_what_makes_no_sense_is_refused(
    small_corpus: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    outcome = undertone("train", small_corpus, "--out", tmp_path / "run", "--store", tmp_path / "store", *HEAD, *words)
    assert outcome.fails_with(message), outcome.err
