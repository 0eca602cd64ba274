"""RECOLA on a tree of the release's file names and tables of annotations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from undertone.corpora import load_corpus
from undertone.corpora.folds import check_folds
from undertone.downstream.task import Task
from undertone.tests.corpora.trees import clip, prepared
from undertone.training.targets import annotation

RATERS = ("FM1", "FM2", "FM3", "FF1", "FF2", "FF3")
TIMES = [round(0.04 * number, 2) for number in range(26)]  # 0 to 1 s


def values(axis: str, speaker: int) -> np.ndarray:
    """(26, 6) of six raters."""
    return np.random.default_rng([len(axis), speaker]).uniform(-1, 1, (len(TIMES), len(RATERS))).round(2)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "RECOLA"
    for speaker in (16, 17, 19):
        clip(root / "RECOLA-Audio-recordings" / f"P{speaker}.wav", seconds=1.5)
        for axis in ("arousal", "valence"):
            path = root / "RECOLA-Annotation" / "emotional_behaviour" / axis / f"P{speaker}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = [";".join(["time", *(f"{rater} " for rater in RATERS)])]
            lines += [
                f"{time};" + ";".join(map(str, row)) for time, row in zip(TIMES, values(axis, speaker), strict=True)
            ]
            path.write_text("\n".join(lines))
    return root


def test_the_mean_of_the_raters_goes_with_each_segment(tree: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    found = prepared("recola", tree, segment=0.4, cache=str(cache))
    assert found.manifest.ids == tuple(f"P{speaker}_{number:03d}" for speaker in (16, 17, 19) for number in range(2))
    spans = [(one.start, one.end) for one in found.manifest][:2]
    assert spans == [(0.0, 0.4), (0.4, 1.0)] and set(found.manifest.column("gender")) == {None}
    for axis in ("arousal", "valence"):
        task = Task(axis, "regression", (axis,), level="frame")
        for one in found.manifest:
            times, given = annotation(task, one)
            mean = values(axis, int(one.speaker[1:])).mean(1)
            inside = [(time >= one.start) and (time <= one.end + 1e-9) for time in TIMES]
            np.testing.assert_allclose(times + one.start, np.array(TIMES)[inside], atol=1e-9)
            np.testing.assert_allclose(given, mean[inside], atol=1e-5)
    assert len(list(cache.glob("*.csv"))) == 3
    before = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    prepared("recola", tree, segment=1.0, cache=str(cache))
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == before
    folds = load_corpus("recola").folds(found.manifest)
    assert len(folds) == 3 and check_folds(folds, found.manifest) == []


def test_the_video_of_a_recording_goes_with_it(tree: Path, tmp_path: Path) -> None:
    film = tree / "RECOLA-Video-recordings" / "P17.mp4"
    film.parent.mkdir()
    film.write_bytes(b"")
    found = prepared("recola", tree, segment=1.0, cache=str(tmp_path / "cache"))
    assert {one.speaker: one.video for one in found.manifest} == {"P16": None, "P17": str(film), "P19": None}


def test_annotations_that_are_missing_or_damaged(tree: Path, tmp_path: Path) -> None:
    table = tree / "RECOLA-Annotation" / "emotional_behaviour" / "valence" / "P17.csv"
    for text, message in (
        ("time;FM1\n0;high\n", r"P17\.csv, line 2: expected a time and the raters' values"),
        ("time,FM1\n0,1\n", r"P17\.csv: expected a header of time and raters, separated by ;"),
        ("time;FM1\n7;0.5\n", "the annotations of P17 have no two times in common"),
    ):
        table.write_text(text)
        with pytest.raises(ValueError, match=message):
            prepared("recola", tree, cache=str(tmp_path / "cache"))
    table.unlink()
    with pytest.raises(ValueError, match=r"recola: no emotional_behaviour/valence/P17\.csv under"):
        prepared("recola", tree, cache=str(tmp_path / "cache"))
    with pytest.raises(ValueError, match="recola has no segment=0"):
        load_corpus("recola", {"segment": 0})
