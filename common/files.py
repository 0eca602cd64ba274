"""Atomic writing: after a kill, a file or folder is complete or absent. And names that every file system accepts."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

LONGEST_NAME = 240  # bytes; file systems take 255, of which a draft's name or a lock's needs some
DRAFT = re.compile(r"\.(.+)\.[a-z0-9_]{8}\.tmp", re.DOTALL)  # name of a folder in which NAME is written or removed
STALE_SECONDS = 24 * 3600.0  # a draft without a lock that is older than this was left by a killed process
_LOCK = ".undertone-lock"


def safe_name(text: str, safe: str = " ") -> str:
    """A file or folder name for any text: unique, and valid on every file system.

    Characters that a file system may refuse are quoted as in a URL. A name that would lead elsewhere (`..`), look like
    a draft, or exceed `LONGEST_NAME` is cut and gets a hash of the text.

    Args:
        text: a name from a user: a speaker, a row, a data set.
        safe: characters to keep beside letters, digits and `_.-~`; never `+`, `/` or `%`.
    """
    name = quote(text, safe=safe, errors="surrogatepass")
    if name.strip(".") and len(name) <= LONGEST_NAME and not (name.startswith(".") and name.endswith(".tmp")):
        return name
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return f"{name[: LONGEST_NAME // 2].lstrip('.')}+{digest}"  # `quote` leaves no other +


@contextmanager
def draft_folder(target: Path) -> Iterator[Path]:
    """Yield a new folder beside `target`, named as a draft and locked until the block ends or the process dies."""
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    try:
        with (folder / f"{_LOCK}.new").open("w") as lock:
            with suppress(OSError):  # a file system without locks: there the draft's age decides
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.rename(folder / f"{_LOCK}.new", folder / _LOCK)  # the final name exists only once locked
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_drafts(folder: Path) -> None:
    """Remove drafts that killed processes left in a folder and its subfolders; those of running processes are kept.

    A dead process holds no lock. A draft without a lock file (no locks on this file system, or an earlier version) is
    removed once it is `STALE_SECONDS` old.
    """
    for draft in list(folder.rglob(".*.tmp")):
        if (name := DRAFT.fullmatch(draft.name)) and draft.is_dir() and _is_left(draft, name[1]):
            shutil.rmtree(draft, ignore_errors=True)


def _is_left(draft: Path, name: str) -> bool:
    try:
        lock = os.open(draft / _LOCK, os.O_RDWR)
    except OSError:
        with suppress(OSError):  # it may have been finished in between
            ours = {name, "old", f"{_LOCK}.new"}.issuperset(os.listdir(draft))
            return ours and time.time() - draft.stat().st_mtime > STALE_SECONDS
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True


def full_disk(error: BaseException) -> str:
    """What to do where a disk, a quota or the limit of a file's size is full; "" for any other error."""
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        if getattr(error, "errno", None) == code or os.strerror(code) in str(error):  # safetensors has its own class
            return f"{os.strerror(code)}. Make room and run again; finished work is kept."
    return ""


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a path beside `target` to write a file or a folder at; on success it is fsynced and renamed to `target`.

    An existing file is replaced in one step; an existing folder is moved aside first and removed after.
    If the block raises, what it wrote is removed and `target` is untouched.

    Raises:
        OSError: the disk is full; the sentence says what to do.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with draft_folder(target) as beside:
            draft = beside / target.name
            yield draft
            for path in [draft, *draft.rglob("*")] if draft.is_dir() else [draft]:
                _fsync(path)
            if target.is_dir():
                os.rename(target, beside / f"{target.name}.old")
            os.replace(draft, target)
            _fsync(target.parent)
    except Exception as error:
        if (advice := full_disk(error)) and not str(error).startswith("Cannot write"):
            raise OSError(f"Cannot write {target}: {advice}") from error
        raise


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """As `atomic_path`, but creates a folder; a ValueError refuses to replace a file, or one that is not empty."""
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise ValueError(f"{target} exists already and is not empty. Give a new folder, or remove it first.")
    with atomic_path(target) as draft:
        draft.mkdir()
        yield draft


def remove_folder(folder: Path) -> None:
    """Remove a folder if it exists; it is renamed first, so that a kill leaves no part of it under its name."""
    if folder.is_dir():
        with draft_folder(folder) as aside, suppress(FileNotFoundError):  # another process may have removed it
            os.rename(folder, aside / folder.name)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, atomically."""
    with atomic_path(path) as draft:
        draft.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically. NaN is refused: JSON has none."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read a JSON file; a ValueError names a file that is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, a number of 5,000 digits, 1,000 brackets
        raise ValueError(f"{path} is not valid JSON: {error}. Restore it or remove it and run again.") from error


def read_record(path: Path, **kinds: type | tuple[type, ...]) -> dict[str, Any]:
    """Read a JSON object that has these keys, with values of these types; a ValueError says what is wrong with it."""
    value: dict[str, Any] = read_json(path)
    wrong = "" if isinstance(value, dict) else f"a {type(value).__name__} instead of an object"
    for key, kind in kinds.items():
        if not wrong and key not in value:
            wrong = f"no {key!r}"
        elif not wrong and not isinstance(value[key], kind):
            wrong = f"{key!r} is a {type(value[key]).__name__}"
    if wrong:
        raise ValueError(f"{path} is not as Undertone writes it: {wrong}. Restore it or remove it and run again.")
    return value


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
