"""Values over time: reading, predictions between frames, and a whole run on them."""

import csv
import dataclasses

import numpy as np
import pytest
import torch

from undertone import load_model
from undertone.common.console import Display
from undertone.corpora.manifest import Utterance
from undertone.downstream.head import HeadOutput
from undertone.downstream.task import Task
from undertone.experiments.crossval import crossval
from undertone.experiments.evaluate_model import evaluate_model
from undertone.experiments.open_run import open_run
from undertone.scoring.metrics import ccc
from undertone.scoring.predictions import Predictions
from undertone.training.accelerator import accelerator_of
from undertone.training.settings import make_config
from undertone.training.targets import annotation, at_annotations, at_times, read_series
from undertone.training.trainer import Trainer, total_steps

AROUSAL = Task("arousal", "regression", ("arousal",), level="frame")


def write(path, text):
    path.write_text(text)
    return str(path)


def test_reads_what_lies_inside_the_utterance(tmp_path):
    path = write(tmp_path / "a.csv", "time,arousal,valence\n0,0.1,0\n0.5,0.2,0\n1.0,,0\n1.5,0.4,0\n2.0,0.5,0\n")
    utterance = Utterance("a", "a.wav", start=0.5, end=1.6, duration=1.1, series=path)
    times, values = annotation(AROUSAL, utterance)
    assert times.tolist() == [0, 0.5, 1.0]
    np.testing.assert_array_equal(values, np.array([0.2, np.nan, 0.4], dtype=np.float32))
    assert [len(part) for part in annotation(AROUSAL, dataclasses.replace(utterance, series=None))] == [0, 0]
    with pytest.raises(ValueError, match="has no column 'dominance', only: time, arousal, valence"):
        annotation(Task("dominance", "regression", ("dominance",), level="frame"), utterance)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("t,arousal\n0,1\n", "needs a column 'time' and one of values, got: t, arousal"),
        ("time\n0\n", "needs a column 'time' and one of values, got: time"),
        ("", "got: ."),
        ("time,arousal\n0,high\n", "a cell that is not a number"),
        ("time,arousal\n1,0\n1,0\n", "the times must rise"),
        ("time,arousal\n0,1\n,0\n", "the times must rise"),
    ],
)
def test_a_series_that_cannot_be_used(tmp_path, text, problem):
    with pytest.raises(ValueError, match=problem):
        read_series(write(tmp_path / "bad.csv", text))
    with pytest.raises(ValueError, match="Cannot read the series"):
        read_series(str(tmp_path / "none.csv"))


def test_predictions_between_frames_as_numpy_interpolates():
    frames, times = torch.tensor([[1.0], [3.0], [2.0], [7.0]]), np.linspace(0, 2.0, 23)
    middles = (np.arange(4) + 0.5) * 0.5  # four frames in two seconds
    expected = np.interp(times, middles, frames[:, 0])
    found = at_times(frames, torch.from_numpy(times), duration=2.0)[:, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert at_times(frames[:1], torch.tensor([0.0, 1.9]), 2.0).flatten().tolist() == [1.0, 1.0]


def test_padding_frames_are_never_read(tmp_path):
    path = write(tmp_path / "a.csv", "time,arousal\n0.0,0\n0.99,0\n")
    output = HeadOutput(
        {"arousal": torch.tensor([[[1.0], [2.0], [99.0]]])}, torch.zeros(1, 1), lengths=torch.tensor([2])
    )
    (found,) = at_annotations(AROUSAL, output, [Utterance("a", "a.wav", duration=1.0, series=path)])
    assert found.flatten().tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="gives no lengths"):
        at_annotations(AROUSAL, dataclasses.replace(output, lengths=None), [Utterance("a", "a.wav")])


@pytest.fixture
def traced(small_corpus, tmp_path):
    """The small corpus with arousal over time, ten times a second: it rises or falls to the utterance's own value."""
    with small_corpus.open() as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        goal = float(row.pop("arousal"))
        lines = [f"{k / 10},{0.5 + (goal - 0.5) * min(1, k / 5)}" for k in range(40)]
        row["series"] = f"{number}.csv" if number % 8 else ""
        (tmp_path / f"{number}.csv").write_text("\n".join(["time,arousal", *lines]))
        row["file"] = str(small_corpus.parent / row["file"])
    table = tmp_path / "traced.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return table


def config_of(table, tmp_path, *words):
    settings = ["tasks=series.arousal", "head=frames", "head.hidden_size=16", "head.dropout=0", "lr=0.01", "device=cpu"]
    settings += ["protocol=groups", "num_folds=2", "max_epochs=5", "batch_size=8", f"store={tmp_path / 'store'}"]
    return make_config({"corpus": str(table)}, [*settings, *words])


def test_a_whole_run_is_scored_over_all_times_at_once(traced, tmp_path, monkeypatch):
    out = tmp_path / "run"
    results = crossval(config_of(traced, tmp_path, "max_epochs=2"), out, Display(quiet=True))
    predictions = Predictions.load(out / "predictions.parquet")
    expected = ccc(predictions.targets["arousal"], predictions.scores["arousal"][:, 0])
    assert results["pooled"]["arousal"]["ccc"] == pytest.approx(expected)
    assert len(predictions) > 10 * len(set(predictions.ids))
    model = load_model(out)
    assert model.tasks == (AROUSAL,)
    monkeypatch.setattr("undertone.experiments.hidden_states.STORE", tmp_path / "store")
    evaluated = evaluate_model(model.model, str(traced), None, "cpu", Display(quiet=True))
    with traced.open() as file:
        rows = list(csv.DictReader(file))
    truth, values = [], []
    for row, found in zip(rows, model.predict([row["file"] for row in rows]), strict=True):
        curve = found["arousal"]
        assert curve["mean"] == pytest.approx(np.mean(curve["values"]), abs=1e-5)
        if not row["series"]:
            continue
        series = read_series(str(traced.parent / row["series"]))
        inside = series["time"] <= found["duration"]
        truth.append(series["arousal"][inside])
        values.append(np.interp(series["time"][inside], curve["times"], curve["values"]))
    by_hand = ccc(np.concatenate(truth), np.concatenate(values))
    assert evaluated["pooled"]["arousal"]["ccc"] == pytest.approx(by_hand, abs=1e-4)


def test_training_learns_and_accumulation_gives_the_gradient_of_the_whole_batch(traced, tmp_path):
    def fit(name, *words):
        run = open_run(config_of(traced, tmp_path, *words), tmp_path / name, Display(quiet=True))
        train = run.manifest.select(run.folds[0].train)
        trainer = Trainer(
            run.config, run.tasks, run.source, run.new_downstream("x"), tmp_path / name, accelerator_of(run.config)
        )
        trainer.fit(train, [], total_steps(run.config, len(train)))
        return trainer.predict(train), trainer.module.state_dict()

    learned, _ = fit("ccc", "max_epochs=8")
    assert ccc(learned.targets["arousal"], learned.scores["arousal"][:, 0]) > 0.4
    (_, whole), (_, parts) = (fit(f"{number}", "regression_loss=mse", f"accumulation={number}") for number in (1, 3))
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, atol=5e-4, rtol=0, msg=name)


def test_what_cannot_be_predicted_over_time(traced, small_corpus, tmp_path):
    for words, problem in (
        (
            ["head=attention"],
            "Head 'attention' gives one output an utterance, but 'arousal' is predicted frame by frame",
        ),
        (["tasks=series.arousal,emotion"], "cannot be learned at once: series.arousal, emotion"),
    ):
        with pytest.raises(ValueError, match=problem):
            open_run(config_of(traced, tmp_path, *words), tmp_path / "run", Display(quiet=True))
    with pytest.raises(ValueError, match="no utterance has a series"):
        open_run(config_of(small_corpus, tmp_path), tmp_path / "other", Display(quiet=True))
    with pytest.raises(ValueError, match="only values are predicted frame by frame"):
        Task("emotion", "classification", ("a", "b"), level="frame")
