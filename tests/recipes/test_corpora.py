"""Each corpus' recipe end to end, on a made-up tree of the corpus' real file names."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

TINY = ("max_epochs=2", "head.hidden_size=8", "batch_size=16", "device=cpu")


def tone(path: Path, number: int) -> None:
    """Noise under a tone that tells the class by its pitch."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(6400) / 16000
    noise = np.random.default_rng(list(path.name.encode())).normal(0, 0.02, len(time))
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * 200 * 2**number * time) + noise, 16000)


def emodb(root: Path) -> None:
    for speaker in ("03", "08", "10", "09"):
        for number, emotion in enumerate("WTN"):
            for take in "ab":
                tone(root / f"{speaker}a01{emotion}{take}.wav", number)


def ravdess(root: Path) -> None:
    for actor in range(1, 13):
        for number, emotion in enumerate(("01", "03", "05")):
            tone(root / f"Actor_{actor:02d}" / f"03-01-{emotion}-01-01-01-{actor:02d}.flac", number)


def iemocap(root: Path) -> None:
    for session in "123":
        dialog, lines = f"Ses0{session}F_impro01", []
        for number, code in enumerate(("ang", "exc", "neu", "sad")):
            for letter in "FM":
                turn = f"{dialog}_{letter}{number:03d}"
                tone(root / f"Session{session}" / "sentences" / "wav" / dialog / f"{turn}.wav", number)
                lines.append(f"[1.0 - 2.0]\t{turn}\t{code}\t[{1 + number}.0000, 3.0000, 3.0000]")
        labels = root / f"Session{session}" / "dialog" / "EmoEvaluation" / f"{dialog}.txt"
        labels.parent.mkdir(parents=True)
        labels.write_text("\n".join(lines))


def crema_d(root: Path) -> None:
    for actor in range(1001, 1011):
        for number, emotion in enumerate(("ANG", "HAP", "SAD")):
            tone(root / "AudioWAV" / f"{actor}_DFA_{emotion}_XX.wav", number)


def run(name: str, make: Callable[[Path], None], folder: Path, *words: str) -> dict[str, Any]:
    if not (folder / "data").exists():
        make(folder / "data")
    recipe = importlib.import_module(f"undertone.recipes.{name}")
    out = folder / f"run{len(words)}"
    recipe.main(["--root", str(folder / "data"), "--out", str(out), *TINY, f"store={folder / 'store'}", *words])
    assert (out / "report.html").is_file() and (out / "model" / "model.safetensors").is_file()
    return dict(json.loads((out / "results.json").read_text()))


@pytest.mark.parametrize(
    ("make", "protocol", "folds"),
    [
        (emodb, "speaker", ["03", "08", "09", "10"]),
        (ravdess, "actors", ["01-04", "05-08", "09-12"]),
        (iemocap, "session", ["1", "2", "3"]),
        (crema_d, "groups", ["group1", "group2", "group3", "group4", "group5"]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_recipe(make: Callable[[Path], None], protocol: str, folds: list[str], tmp_path: Path, capsys: Any) -> None:
    name = make.__name__
    results = run(name, make, tmp_path)
    assert results["corpus"] == name and results["protocol"] == protocol and results["speaker_independent"]
    assert [fold["name"] for fold in results["folds"]] == folds
    assert [task["name"] for task in results["tasks"]] == ["emotion", "gender"]
    said = capsys.readouterr().out
    assert said.startswith(f"UAR {results['pooled']['emotion']['uar']:.3f}  WA ") and "report.html" in said


def test_options_reach_the_corpus_and_the_results_say_so(tmp_path: Path) -> None:
    results = run("iemocap", iemocap, tmp_path, "corpus.labels=all", "corpus.part=improvised", "protocol=superb")
    assert results["corpus_variant"] == "all emotions; improvised turns" and results["dev_shares_speakers"]
    assert results["tasks"][0]["labels"] == ["angry", "excited", "neutral", "sad"]
    report = (tmp_path / "run3" / "report.html").read_text()
    assert "all emotions; improvised turns · fbank + attention" in report and "dev shares speakers with train" in report


def test_the_dimensions(tmp_path: Path, capsys: Any) -> None:
    results = run("iemocap", iemocap, tmp_path, "tasks=valence")
    assert results["tasks"][0]["kind"] == "regression" and capsys.readouterr().out.startswith("CCC ")
