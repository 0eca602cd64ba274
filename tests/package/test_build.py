"""sdist and wheel, installed away from the repository, do what the repository does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = "import sys, setuptools.build_meta as backend; print(getattr(backend, sys.argv[1])(sys.argv[2]))"


def build(what: str, source: Path, out: Path) -> Path:
    """`build_sdist` or `build_wheel` by the backend that pyproject.toml names; nothing is downloaded."""
    command = [sys.executable, "-c", BUILD, what, str(out)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=True)
    return out / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel that was built from the sdist of the files that git would ship."""
    place = tmp_path_factory.mktemp("build")
    shutil.copytree(ROOT, place / "source", symlinks=True, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info"))
    with tarfile.open(build("build_sdist", place / "source", place)) as sdist:
        sdist.extractall(place / "sdist", filter="data")
    wheel = build("build_wheel", next((place / "sdist").iterdir()), place)
    with zipfile.ZipFile(wheel) as content:
        content.extractall(place / "installed")
    return place / "installed"


def run(installed: Path, place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Python in an empty folder, with the installed package and no checkout on its path."""
    keep = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
    environment = keep | {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *words], cwd=place, env=environment, capture_output=True, text=True)


def test_the_package_is_the_installed_one_and_whole(installed: Path, tmp_path: Path) -> None:
    done = run(installed, tmp_path, "-c", "import undertone; print(undertone.__file__)")
    assert done.stdout.strip() == str(installed / "undertone" / "__init__.py"), done.stderr
    assert not (installed / "undertone" / "tests").exists()
    ours = {path.relative_to(ROOT) for path in ROOT.rglob("*.j2") if ".venv" not in path.parts}
    assert ours == {path.relative_to(installed / "undertone") for path in (installed / "undertone").rglob("*.j2")}


@pytest.mark.slow
def test_it_trains_predicts_and_reports(installed: Path, tmp_path: Path) -> None:
    settings = ("corpus.num_speakers=4", "corpus.per_emotion=2", "--root", "audio", "max_steps=2", "head.hidden_size=4")
    verb = ("-m", "undertone.cli")
    trained = run(installed, tmp_path, *verb, "crossval", "synthetic", *settings, "--out", "run", "--store", "store")
    assert trained.returncode == 0, trained.stderr
    sound = next((tmp_path / "audio").rglob("*.wav"))
    predicted = run(installed, tmp_path, *verb, "predict", "run", str(sound), "--json")
    assert predicted.returncode == 0 and '"emotion"' in predicted.stdout, predicted.stderr
    reported = run(installed, tmp_path, *verb, "report", "run")
    assert reported.returncode == 0 and (tmp_path / "run" / "report.html").is_file(), reported.stderr
