"""Writing that survives a kill: a file or folder is there whole, or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MAKE_ROOM = "No space left on device. Make room and run again; what was finished is kept."


def is_full_disk(error: BaseException) -> bool:
    """Whether a disk or a quota is full; safetensors says so in an error of its own."""
    codes = (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "errno", None) in codes or any(os.strerror(code) in str(error) for code in codes)


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a path beside `target` to write a file or a folder at; on success it is fsynced and renamed to `target`.

    An existing file is replaced in one step; an existing folder is moved aside first and removed after.
    If the block raises, what it wrote is removed and `target` is untouched.

    Raises:
        OSError: the disk is full; the sentence says what to do.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    draft = beside / target.name
    try:
        yield draft
        for path in [draft, *draft.rglob("*")] if draft.is_dir() else [draft]:
            _fsync(path)
        if target.is_dir():
            os.rename(target, beside / "old")
        os.replace(draft, target)
        _fsync(target.parent)
    except Exception as error:
        if is_full_disk(error) and not str(error).startswith("Cannot write"):
            raise OSError(f"Cannot write {target}: {MAKE_ROOM}") from error
        raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """As `atomic_path` for a folder, made already; one that holds anything is refused, not replaced.

    Raises:
        ValueError: `target` is a file, or a folder that is not empty.
    """
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise ValueError(f"{target} is there already and is not empty. Give a new folder, or remove it first.")
    with atomic_path(target) as draft:
        draft.mkdir()
        yield draft


def remove_folder(folder: Path) -> None:
    """Remove a folder, if there is one, so that a kill leaves no part of it under its name: it is moved aside first."""
    if folder.is_dir():
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
        os.rename(folder, aside / folder.name)
        shutil.rmtree(aside, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically. NaN is refused: JSON has none."""
    with atomic_path(path) as draft:
        draft.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: the file is not JSON; the message names it.
        FileNotFoundError: there is no such file.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, a number of 5,000 digits, 1,000 brackets
        raise ValueError(f"{path} is not valid JSON: {error}. Restore it or remove it and run again.") from error


def read_record(path: Path, **kinds: type | tuple[type, ...]) -> dict[str, Any]:
    """Read a JSON object that has these keys, each with a value of its type or types.

    Raises:
        ValueError: the file is not JSON, or JSON of another form; the message names it and what is wrong.
        FileNotFoundError: there is no such file.
    """
    value = read_json(path)
    wrong = f"a {type(value).__name__} and no object" if not isinstance(value, dict) else ""
    for key, kind in kinds.items() if not wrong else ():
        if key not in value:
            wrong = f"no {key!r}"
        elif not isinstance(value[key], kind):
            wrong = f"{key!r} is a {type(value[key]).__name__}"
        if wrong:
            break
    if wrong:
        raise ValueError(f"{path} is not as Undertone wrote it: {wrong}. Restore it or remove it and run again.")
    record: dict[str, Any] = value
    return record


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
