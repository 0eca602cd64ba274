"""What nobody wrote a sentence for ends as one all the same, with what to do; a damaged record is named."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from undertone import cli
from undertone.common.files import atomic_path, read_record
from undertone.tests.cli.commands import TINY, undertone

NOT_OBJECTS = ("[]", "3", "null", '"text"', "true")


def ends_with(error: Exception, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """Status and last line of a command that raises this."""

    def app(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "_command", lambda: app)
    monkeypatch.delenv("UNDERTONE_TRACEBACK")
    outcome = undertone("list", "heads")
    assert "Traceback" not in outcome.err and outcome.err.startswith("undertone: ") and outcome.err.count("\n") == 1
    return outcome.status, outcome.err


@pytest.mark.parametrize(
    "error, said",
    [
        (MemoryError(), "There is not enough memory: an array did not fit. Raise the limit"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
            "There is not enough memory: DefaultCPU",
        ),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "There is not enough memory: [Errno 12]"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/x/y"),
            "Cannot write /x/y: No space left on device. Make room",
        ),
        (
            OSError("Cannot write /x: No space left on device. Make room."),
            "Cannot write /x: No space left on device. M",
        ),
        (KeyError("pooled"), "Unexpected error: KeyError: 'pooled' (cli.py:"),
        (ValueError("Three of 4."), "undertone: Three of 4."),
    ],
)
def test_every_failure_is_a_sentence(error: Exception, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    status, err = ends_with(error, monkeypatch)
    assert said in err and status == (2 if isinstance(error, ValueError | OSError) else 1)


def test_what_was_not_foreseen_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_command", lambda: lambda **_: read_record(None))
    with pytest.raises(AttributeError):
        undertone("list", "heads")
    monkeypatch.delenv("UNDERTONE_TRACEBACK")
    assert "AttributeError: 'NoneType' object has no attribute 'read_text' (common/files.py:" in undertone("list").err


@pytest.mark.parametrize("words", [("--out", ""), ("--out=",), ("",)])
def test_an_unset_variable_of_the_shell_is_no_folder(words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = undertone("crossval", "synthetic", *words)
    assert outcome.fails_with("The command has an empty argument", "Give it a value, or remove it")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def tiny_disk(tmp_path: Path):
    """A file system of 64 kB, where this process may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_full_disk_while_weights_are_written(tiny_disk: Path) -> None:
    """safetensors raises an error of its own."""
    weights = {"weight": torch.zeros(100_000)}
    with pytest.raises(OSError, match="Cannot write .*weights.safetensors: No space left on device. Make room and run"):
        with atomic_path(tiny_disk / "weights.safetensors") as draft:
            save_file(weights, draft)
    assert not list(tiny_disk.iterdir())


@pytest.mark.parametrize("text", [*NOT_OBJECTS, "{}", '{"a": "1"}', "{", "[" * 2000])
def test_a_record_of_another_form_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=r"x\.json is not .* Restore it or remove it and run again"):
        read_record(tmp_path / "x.json", a=(int, float))
    (tmp_path / "x.json").write_text('{"a": 1.5, "b": null}')
    assert read_record(tmp_path / "x.json", a=(int, float)) == {"a": 1.5, "b": None}


@pytest.mark.parametrize("text", ["[]", "{}"])
@pytest.mark.parametrize(
    "name, words",
    [
        ("results.json", ("report", "{run}")),
        ("results.json", ("compare", "{run}", "{run}")),
        ("config.json", ("rerun", "{run}", "--out", "{out}")),
        ("hidden_states.json", ("crossval", "{corpus}", "--out", "{run}", *TINY)),
        ("fold.json", ("crossval", "{corpus}", "--out", "{run}", *TINY)),
    ],
)
def test_a_damaged_file_of_a_run_is_named(
    strange_run: Path, strange_corpus, tmp_path, name, words, text, monkeypatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(strange_run, run)
    config = json.loads((run / "config.json").read_text())
    path = next(run.rglob(name)) if name != "results.json" else run / name
    path.write_text(text)
    if words[0] == "crossval":
        (run / "results.json").unlink()
    places = {"run": run, "out": tmp_path / "again", "corpus": strange_corpus}
    outcome = undertone(
        *(word.format(**places) for word in words), *((f"store={config['store']}",) if words[0] == "crossval" else ())
    )
    assert outcome.status == 2 and name in outcome.err and "run again" in outcome.err, outcome.err
