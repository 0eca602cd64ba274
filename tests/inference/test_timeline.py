"""A timeline as table, files and picture."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
import soundfile

from undertone.downstream.task import Task
from undertone.inference.predict import Predictor
from undertone.inference.timeline import Timeline

TASKS = (
    Task("emotion", "classification", ("angry", "sad")),
    Task("arousal", "regression", ("arousal",)),
)
EMOTION = {"label": "sad", "scores": {"angry": 0.25, "sad": 0.75}, "unsure": False}
UNSURE = {"label": "angry", "scores": {"angry": 0.5, "sad": 0.5}, "unsure": True}
ROWS = [
    {"start": 0.0, "end": 2.0, "channel": 1, "speaker": "A B", "emotion": EMOTION, "arousal": 0.5},
    {"start": 0.0, "end": 2.0, "channel": 2, "speaker": "A B", "no_speech": "silence"},
    {"start": 1.0, "end": 3.0, "channel": 1, "emotion": UNSURE, "arousal": 0.25},
    {"start": 1.0, "end": 3.0, "channel": 2, "error": "2 of 9 samples are NaN or infinite."},
]


@pytest.fixture
def timeline():
    return Timeline("calls/a $b$ <c>.wav", TASKS, ROWS)


def test_a_frame_has_a_row_a_window_and_a_column_a_class(timeline):
    frame = timeline.to_pandas()
    assert list(frame.columns[:8]) == [
        "start", "end", "channel", "speaker", "emotion", "emotion_angry", "emotion_sad", "emotion_unsure",
    ]  # fmt: skip
    assert len(frame) == len(timeline) == 4 and frame["emotion"].tolist()[0] == "sad"
    assert frame["emotion_sad"].dropna().tolist() == [0.75, 0.5] and frame["arousal"].dropna().tolist() == [0.5, 0.25]
    assert frame["no_speech"].dropna().tolist() == ["silence"]


def test_csv_and_json_lines_hold_the_rows(timeline, tmp_path):
    timeline.save(tmp_path / "a.csv")
    first, *_, last = csv.DictReader(io.StringIO((tmp_path / "a.csv").read_text()))
    assert (first["start"], first["channel"], first["speaker"], first["emotion"]) == ("0.000000", "1", "A B", "sad")
    assert first["emotion_sad"] == "0.750000" and last["error"].startswith("2 of 9")
    assert list(first)[-2:] == ["no_speech", "error"] and first["file"] == last["file"] == timeline.file
    timeline.save(tmp_path / "a.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert lines == [{"file": timeline.file} | row for row in ROWS]


def test_rttm_has_the_windows_with_a_speaker(timeline):
    assert timeline.to_rttm() == (
        "SPEAKER a_$b$_<c> 1 0.000 2.000 <NA> sad A_B 0.750 <NA>\n"
        "SPEAKER a_$b$_<c> 2 0.000 2.000 <NA> <NA> A_B <NA> <NA>\n"
    )
    assert all(len(line.split()) == 10 for line in timeline.to_rttm().splitlines())
    with pytest.raises(ValueError, match="Give segments with a column speaker"):
        Timeline("a.wav", TASKS, ROWS[2:]).to_rttm()


def test_pictures_are_written_and_show_every_class(timeline, tmp_path):
    figure = timeline.plot()
    assert len(figure.axes) == 6  # of each channel: speakers, emotion, values
    lines = {line.get_label(): line for line in figure.axes[1].get_lines()}
    np.testing.assert_allclose(lines["sad"].get_ydata(), [0.75, 0.5])
    np.testing.assert_allclose(lines["sad"].get_xdata(), [1.0, 2.0])
    timeline.save(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    timeline.save(tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text()
    assert "<title>a $b$ &lt;c&gt;.wav</title>" in page and "<c>" not in page and page.count("<tr>") == 5
    assert "http" not in page.replace("data:image", "")


def test_a_window_shades_the_time_nearest_to_it_and_the_legend_says_what() -> None:
    plain = {"emotion": EMOTION, "arousal": 0.5}
    kinds = [plain, {"emotion": UNSURE}, {"emotion": UNSURE}, plain, {"no_speech": "silence"}, {"error": "damaged"}]
    rows = [{"start": float(begin), "end": begin + 2.0} | kind for begin, kind in enumerate(kinds)]
    axes = Timeline("a.wav", TASKS, rows).plot().axes
    nothing = [("no speech", 4.5, 5.5), ("error", 5.5, 7)]
    for one, expected in ((axes[0], [("unsure", 1.5, 3.5), *nothing]), (axes[1], nothing)):
        bars = [(bar.get_label(), bar.get_datalim(one.transData)) for bar in one.collections]
        assert [(label, round(box.x0, 9), round(box.x1, 9)) for label, box in bars] == expected
        names = [text.get_text() for text in one.get_legend().get_texts()]
        assert names[-len(expected) :] == [name for name, *_ in expected]
    assert axes[-1].get_xlabel() == "time (s)"


def test_other_endings_and_empty_timelines_are_refused(timeline, tmp_path):
    with pytest.raises(ValueError, match="not written as 'a.xlsx'.*Known: .csv, .html"):
        timeline.save(tmp_path / "a.xlsx")
    with pytest.raises(ValueError, match="no window to show"):
        Timeline("a.wav", TASKS, []).plot()
    assert repr(timeline) == "Timeline('calls/a $b$ <c>.wav', 4 windows, 3.0 s, tasks: emotion, arousal)"


def test_predict_long_gives_one(predictor, tmp_path):
    soundfile.write(tmp_path / "a.wav", 0.1 * np.random.default_rng(0).standard_normal(16_000), 16_000)
    timeline = Predictor(predictor.model, any_sound=True).predict_long(tmp_path / "a.wav", window=0.5, hop=0.25)
    assert [row["start"] for row in timeline] == [0.0, 0.25, 0.5] and timeline.tasks == predictor.tasks
    assert all("emotion" in row for row in timeline)
    careful = Predictor(predictor.model, any_sound=False)
    assert all("no_speech" in row for row in careful.predict_long(tmp_path / "a.wav", window=0.5))
    with pytest.raises(ValueError, match="batch_seconds=-1 must be seconds, 0 or more"):
        careful.predict_long(tmp_path / "a.wav", batch_seconds=-1)
