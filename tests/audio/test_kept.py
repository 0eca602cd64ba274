"""What was made from a file is kept, up to a number of bytes, and made again when the file changes."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from undertone.audio.kept import Kept


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    for name in "abc":
        (tmp_path / name).write_text(name)
    return sorted(tmp_path.iterdir())


def test_threads_wait_for_the_first_of_a_file_and_not_for_another_file(files: list[Path]) -> None:
    kept: Kept[str] = Kept(100, len)
    both, made = threading.Barrier(2, timeout=5), []

    def make(path: Path) -> str:
        both.wait()  # passes only if two files are made at the same time
        time.sleep(0.02)
        made.append(path.name)
        return path.read_text()

    def get(path: Path) -> None:
        found.append(kept.get(path, lambda: make(path), str.upper))

    found: list[str] = []
    threads = [threading.Thread(target=get, args=(path,)) for path in files[:2] * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == ["a", "b"] and sorted(found) == list("AAABBB") and not kept.busy


def test_the_oldest_is_dropped_and_a_changed_or_failed_file_is_made_again(files: list[Path]) -> None:
    dropped: list[str] = []
    kept: Kept[str] = Kept(2, len, dropped.append)
    for path in [*files[:2], files[0], files[2]]:
        kept.get(path, path.read_text, str)
    assert dropped == ["b"]
    files[0].write_text("much more")
    assert kept.get(files[0], files[0].read_text, str) == "much more"  # larger than all that may be kept
    assert dropped == ["b", "a", "c"]
    with pytest.raises(UnicodeDecodeError):
        kept.get(files[1], lambda: b"\xff".decode(), str)
    assert kept.get(files[1], files[1].read_text, str) == "b" and not kept.busy


def test_a_forked_process_starts_empty(files: list[Path]) -> None:
    kept: Kept[str] = Kept(100, len)
    with kept.lock:  # as another thread may hold it
        process = os.fork()
        if not process:
            os._exit(0 if kept.get(files[0], lambda: "new", str) == "new" and kept.lock.acquire(timeout=1) else 1)
    assert os.waitpid(process, 0)[1] == 0
