"""A ladder on the command line: what it trains, on which speech, what it leaves in the model; and the six cells."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from undertone.corpora.synthetic import Synthetic
from undertone.scoring.predictions import Predictions
from undertone.tests.cli.commands import undertone
from undertone.tests.cli.runs import LAST, Train, distance, fold, history, results, rows_of, weights, write_table
from undertone.upstream.hf.random_weights import save_random

pytestmark = pytest.mark.slow  # tests/downstream/test_ladder.py has the equations, in the default run

DENSE = ("head=dense", LAST)
LADDER = (*DENSE, "ladder=true")


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flat folder of ten clips of speakers that the corpus has not."""
    root = tmp_path_factory.mktemp("voices")
    for row in list(Synthetic(seed=9, num_speakers=5, per_emotion=1).rows(root / "made"))[:10]:
        shutil.move(row["path"], root / f"{row['speaker']}-{Path(row['path']).name}")
    shutil.rmtree(root / "made")
    return root


def test_ladder_off_in_effect_is_the_plain_head(trained: Train) -> None:
    plain, ladder = trained(*DENSE), trained(*LADDER, "ladder.noise=0", "ladder.lambdas=0")
    assert distance(plain, ladder) < 1e-6
    assert distance(plain, trained(*LADDER)) > 1e-3


@pytest.mark.parametrize("head", ["attention", "linear", "dense_frames"])
def test_ladder_is_a_switch_on_any_head_and_leaves_no_decoder(trained: Train, head: str) -> None:
    run = trained(f"head={head}", LAST, "ladder=true")
    assert not [name for name in weights(run) if "ladder" in name]
    assert weights(run).keys() == weights(trained(f"head={head}", LAST)).keys()
    assert distance(run, trained(f"head={head}", LAST)) > 1e-4


def test_ladder_options_are_noise_weights_and_denoiser(trained: Train) -> None:
    runs = [trained(*LADDER, *words) for words in ((), ("ladder.noise=1",), ("ladder.denoiser=mlp",))]
    assert distance(runs[0], runs[1]) > 1e-3 and distance(runs[0], runs[2]) > 1e-5
    first_loss = [
        history(trained("head=dense", "eval_every=1", "max_steps=1", "ladder=true", f"ladder.lambdas={weight}"))[0]
        for weight in (0, 1, 2)
    ]
    none, one, two = (record["train_loss"] for record in first_loss)
    assert two - none == pytest.approx(2 * (one - none), rel=1e-3) and one > none + 1


def test_unlabelled_speech_is_used_and_its_labels_are_not(
    trained: Train, voices: Path, small_corpus: Path, store: Path, tmp_path: Path
) -> None:
    run = trained(*LADDER, f"unlabelled={voices}")
    assert distance(run, trained(*LADDER)) > 1e-4
    assert results(run)["num_utterances"] == 64
    labelled = []
    for number, (emotion, speaker) in enumerate([("angry", "1"), ("sad", "2")]):
        rows = [{"file": path, "emotion": emotion, "speaker": speaker} for path in sorted(voices.glob("*.wav"))]
        (tmp_path / f"{number}").mkdir()
        table = write_table(tmp_path / f"{number}" / "voices.csv", rows)
        labelled.append(trained(*LADDER, f"unlabelled={table}"))
    assert distance(*labelled) == 0
    words = ("--ladder", "--unlabelled", voices, *DENSE, "device=cpu", "head.hidden_size=8", "max_epochs=2")
    words += ("batch_size=16",)
    outcome = undertone("train", small_corpus, "--out", tmp_path / "run", "--store", store, *words)
    assert outcome.status == 0, outcome.err
    assert distance(run, tmp_path / "run") == 0


def test_unlabelled_speech_without_a_ladder_or_without_sound_is_refused(small_corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for words, message in (
        ((f"unlabelled={tmp_path}",), "needs a method: add one of ladder=true, mean_teacher=10, pseudo_labels=0.9"),
        (("ladder=true", f"unlabelled={tmp_path / 'empty'}"), "No audio in"),
        (("ladder=true", f"unlabelled={small_corpus}"), "All of the unlabelled audio is in the corpus already"),
        (("ladder=true", "ladder.nois=1"), "Unknown setting 'ladder.nois'. Did you mean 'ladder.noise'"),
        (("ladder=true", "head=svm"), "Head 'svm' is fitted by a solver, not by gradients: ladder=True"),
    ):
        outcome = undertone("train", small_corpus, "--out", tmp_path / "run", "device=cpu", *words)
        assert outcome.fails_with(message), outcome.err


CELLS = {
    "STL": ("tasks=arousal",),
    "MTL": (),
    "AE": ("ladder=true", "ladder.first=true"),
    "Ladder+STL": ("tasks=arousal", "ladder=true"),
    "Ladder+MTL": ("ladder=true",),
    "Ladder+MTL+unlabelled": ("ladder=true", "unlabelled"),
}


@pytest.mark.parametrize("cell", CELLS)
def test_the_six_cells_of_parthasarathy_give_a_ccc_for_each_value(
    cell: str, small_corpus: Path, voices: Path, store: Path, tmp_path: Path
) -> None:
    """Single task and several, autoencoder, ladder, unlabelled speech: from flags alone, with the preset."""
    rows = [
        row
        | {"file": small_corpus.parent / row["file"], "valence": 0.2 + 0.6 * (row["emotion"] == "happy")}
        | {"dominance": 0.3 + 0.1 * number % 0.5}
        for number, row in enumerate(rows_of(small_corpus))
    ]
    table = write_table(tmp_path / "values.csv", rows)
    words = [f"unlabelled={voices}" if word == "unlabelled" else word for word in CELLS[cell]]
    words = [*(["ladder=false"] if "ladder=true" not in words else []), *words]
    preset = ("--system", "parthasarathy2020:small", "upstream=functionals", "max_epochs=2", "device=cpu")
    outcome = undertone("train", table, *preset, "--out", tmp_path / "run", "--store", store, *words)
    assert outcome.status == 0, outcome.err
    pooled = results(tmp_path / "run")["pooled"]
    names = {"arousal"} if "STL" in cell else {"arousal", "valence", "dominance"}
    assert set(pooled) == names and all(pooled[name]["ccc"] is not None for name in names)
    assert len(Predictions.load(tmp_path / "run" / "predictions.parquet").ids) == fold(tmp_path / "run")["num_test"]
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["ladder"] == ("STL" != cell != "MTL")


def test_the_paper_size_on_opensmiles_vectors_with_unlabelled_speech(
    small_corpus: Path, voices: Path, store: Path, tmp_path: Path
) -> None:
    pytest.importorskip("opensmile", reason="needs the extra opensmile")
    words = ("--system", "parthasarathy2020", "tasks=emotion", "max_epochs=1", "device=cpu", "--store", store)
    runs = [tmp_path / "alone", tmp_path / "unlabelled"]
    for out, more in zip(runs, ((), (f"unlabelled={voices}",)), strict=True):
        outcome = undertone("train", small_corpus, "--fold", "F1", "--out", out, *words, *more)
        assert outcome.status == 0, outcome.err
    assert [value.shape[1] for name, value in weights(runs[0]).items() if value.ndim == 2][0] == 6373  # ComParE's set
    assert distance(*runs, "downstream") > 1e-7  # what is unlabelled has a part in it


@pytest.mark.parametrize(
    "mode, head", [("frozen", "dense"), ("frozen", "dense_frames"), ("finetune", "dense"), ("finetune", "dense_frames")]
)
def test_unlabelled_speech_goes_through_the_upstream(
    mode: str, head: str, small_corpus: Path, voices: Path, store: Path, tmp_path: Path
) -> None:
    """Pooled and frame by frame, from the store and through an upstream that learns."""
    upstream = save_random("tiny-wav2vec2", tmp_path / "tiny")
    words = ("--upstream", upstream, f"mode={mode}", f"head={head}", "head.hidden_size=8", "max_steps=2")
    runs = []
    for name, more in (("alone", ()), ("unlabelled", (f"unlabelled={voices}",))):
        out = tmp_path / name
        common = ("--out", out, "--store", store, "device=cpu", "batch_size=8", "ladder=true", "weight_decay=0")
        outcome = undertone("train", small_corpus, *common, *words, *more)
        assert outcome.status == 0, outcome.err
        runs.append(out)
    assert not any("collapse" in note for note in results(runs[0])["warnings"])
    part = "downstream" if mode == "frozen" else "upstream"
    assert distance(*runs, part) > (1e-5 if mode == "frozen" else 1e-7)


@pytest.mark.parametrize("mode, what", [("frozen", "layer sum"), ("finetune", "upstream")])
def test_a_target_that_may_collapse_is_said_where_the_scores_stand(
    mode: str, what: str, small_corpus: Path, store: Path, tmp_path: Path
) -> None:
    upstream = save_random("tiny-wav2vec2", tmp_path / "tiny")
    words = ("--upstream", upstream, f"mode={mode}", *DENSE, "ladder=true", "ladder.detach=false", "max_steps=1")
    outcome = undertone("train", small_corpus, "--out", tmp_path / "run", "--store", store, "device=cpu", *words)
    sentence = f"ladder.detach=false: the {what} is trained on its own reconstruction, which may collapse"
    assert outcome.status == 0 and sentence in outcome.err, outcome.err
    assert any(sentence in note for note in results(tmp_path / "run")["warnings"])
