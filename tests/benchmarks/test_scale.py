"""benchmarks/scale.py on little audio."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BALLAST = 256 * 2**20  # bytes that the parent of a measured command has, and it has not


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], Any]) -> Any:
    return load_script("scale")


def test_the_least_audio_has_a_speaker_and_all_emotions_for_every_fold(script: Any, tmp_path: Path) -> None:
    script.write_audio(tmp_path / "audio", script.LEAST)
    rows = list(csv.DictReader((tmp_path / "audio" / "clips.csv").open()))
    assert len(rows) == 27 and len({(tmp_path / "audio" / row["file"]).read_bytes() for row in rows}) == 27
    emotions: dict[str, set[str]] = {}
    for row in rows[:24]:
        emotions.setdefault(row["speaker"], set()).add(row["emotion"])
    assert len(emotions) >= 5 and all(found == set(script.EMOTIONS) for found in emotions.values())


def test_the_peak_of_a_command_is_its_own(script: Any, tmp_path: Path) -> None:
    """Not that of the process that starts it, which `getrusage` counts in."""
    ballast = bytearray(BALLAST)
    ballast[::4096] = b"x" * len(range(0, BALLAST, 4096))
    (tmp_path / "left").write_bytes(bytes(2000))
    found = script.run_command(["--version"], tmp_path / "left")
    assert 10 < found["peak_mb"] < BALLAST / 1e6 and found["disk_mb"] == 0.002 and 0 < found["cpu_s"] < 30
    with pytest.raises(SystemExit, match="undertone no-such-command failed"):
        script.run_command(["no-such-command"], tmp_path / "left")


@pytest.mark.parametrize("hours", ["1,2", "0.01,1,2", "1,1,2"])
def test_sizes_that_give_no_curve_are_refused(
    script: Any, hours: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["scale.py", "--hours", hours, "--work", str(tmp_path), "--out", "out.json"])
    with pytest.raises(SystemExit):
        script.main()
    assert "--hours takes three sizes or more, of 0.03 at least" in capsys.readouterr().err
