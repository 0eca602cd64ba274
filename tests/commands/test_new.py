from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from undertone.commands.new import KINDS, write_new
from undertone.common.console import Display
from undertone.experiments.crossval import train
from undertone.recipes.systems import load_system
from undertone.training.settings import make_config
from undertone.upstream import load_upstream

QUIET = Display(quiet=True)


def test_the_contract_tests_pass_as_written_and_see_a_broken_head(tmp_path: Path) -> None:
    for kind in KINDS:
        write_new(kind, f"my_{kind}", tmp_path)
    file, _ = write_new("head", "broken", tmp_path)
    file.write_text(file.read_text().replace("masked_mean(Frames(hidden, frames.lengths))", "hidden.mean(1)"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert "FAILED test_broken.py::test_batch_and_padding_never_change_an_utterance" in done.stdout, done.stdout
    assert "1 failed, 15 passed" in done.stdout, done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_the_files_are_clean(kind: str, tmp_path: Path) -> None:
    for path in write_new(kind, "one_two", tmp_path):
        text = path.read_text()
        assert "{{" not in text
        assert max(map(len, text.splitlines())) <= 120
        compile(text, str(path), "exec")
    assert "class OneTwo(" in (tmp_path / "one_two.py").read_text()


def test_a_run_takes_the_head_and_the_upstream(small_corpus: Path, tmp_path: Path) -> None:
    head, upstream = (str(write_new(kind, f"my_{kind}", tmp_path)[0]) for kind in ("head", "upstream"))
    values = {"corpus": str(small_corpus), "head": head, "upstream": upstream, "store": str(tmp_path / "store")}
    settings = ["max_epochs=2", "batch_size=16", "head.hidden_size=8", "upstream.num_bands=10"]
    results = train(make_config(values, settings), tmp_path / "run", display=QUIET)
    assert (results["head"], results["upstream"]) == (head, upstream)
    assert load_upstream(upstream, options={"num_bands": 10}).hidden_size == 10


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    file, test = write_new("head", "mine", tmp_path)
    file.write_text("my work")
    with pytest.raises(ValueError, match=r"mine\.py exists already"):
        write_new("corpus", "mine", tmp_path)
    assert file.read_text() == "my work"
    file.unlink()
    with pytest.raises(ValueError, match=r"test_mine\.py exists already"):
        write_new("corpus", "mine", tmp_path)
    assert not file.exists()


def test_what_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Cannot make a new 'haed'. Did you mean 'head'"):
        write_new("haed", "mine", tmp_path)
    for name in ("my-head", "class", "MyHead", "../head", ""):
        with pytest.raises(ValueError, match="such as my_head, got "):
            write_new("head", name, tmp_path)


def test_a_system_from_a_file_or_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.py"
    file.write_text('SYSTEM = {"upstream": "mfcc", "learning_rate": 3e-4}\nVARIANTS = {"fast": ("lr=0.1",)}\n')
    assert load_system(str(file)) == {"upstream": "mfcc", "learning_rate": 3e-4}
    (tmp_path / "pkg_of_systems").mkdir()
    file.rename(tmp_path / "pkg_of_systems" / "mine.py")
    monkeypatch.syspath_prepend(tmp_path)
    assert load_system("pkg_of_systems.mine:fast") == {"upstream": "mfcc", "learning_rate": 0.1}
    with pytest.raises(ValueError, match=r"Cannot load the system 'pkg_of_systems\.gone': No module named"):
        load_system("pkg_of_systems.gone")
    file = tmp_path / "none.py"
    file.write_text("system = 1\n")
    with pytest.raises(ValueError, match=r"none\.py must define SYSTEM, a dict of settings"):
        load_system(str(file))
    with pytest.raises(ValueError, match="No such file"):
        load_system(str(tmp_path / "gone.py"))
    with pytest.raises(ValueError, match="Unknown system 'suprb'. Did you mean 'superb'"):
        load_system("suprb")
