"""Fixtures of these tests: a home of their own, and a run whose names are as strange as names can be."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from undertone.tests.cli.commands import TINY, undertone

LABELS = ("<img src=x onerror=alert(1)>", "fröhlich 😀", r"[/red] $\frac$ `|` ![x](http://x.example/y.png)")
SPEAKERS = ("<script>alert('s')</script>", "Žofie  2", "[bold]李 雷", '\x1b[31m"quoted"\' & co')
STEM = "größe <b onclick=x> [blue] 100% $x$"
RATE = 16_000


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home of the tests' own, where the default store and downloads would go."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("home")
        patch.setenv("HOME", str(folder))
        yield folder


def write_sound(path: Path, hz: float, seconds: float = 0.3) -> Path:
    """A decaying tone."""
    time = np.arange(round(seconds * RATE)) / RATE  # (N,)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * hz * time) * np.exp(-time), RATE)
    return path


@pytest.fixture(scope="session")
def strange_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table with hostile labels, speakers, file names and a name of its own; 4 speakers, 3 labels, 2 takes."""
    folder = tmp_path_factory.mktemp("strange") / "mit Leerzeichen ü"
    rows = []
    for who, speaker in enumerate(SPEAKERS):
        for what, label in enumerate(LABELS):
            for take in range(2):
                name = f"töne/<i>{who} {what}</i>/\u2028{take}.wav".replace("</", "<∕")
                write_sound(folder / name, 150 + 90 * what + 13 * who + take)
                rows.append([name, speaker, "fm"[who % 2], label])
    table = folder / f"{STEM}.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["file", "speaker", "gender", "emotion"], *rows])
    return table


@pytest.fixture(scope="session")
def strange_run(strange_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished cross-validation of it, in a folder with blanks and letters of other scripts."""
    out = tmp_path_factory.mktemp("out") / "läufe 走 [/x]" / "erster <u>"
    store = tmp_path_factory.mktemp("store") / "größe x"
    outcome = undertone("crossval", strange_corpus, "--out", out, "--store", store, *TINY)
    assert outcome.status == 0, outcome.err
    return out
