"""What happens to a store on disk: damage, kills, several processes, no room. Nothing half or false is ever read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from undertone.upstream import load_upstream
from undertone.upstream.store import store as store_module
from undertone.upstream.store.store import Store

KEYS = [f"key{i}" for i in range(6)]


@pytest.fixture(scope="module")
def fbank():
    return load_upstream("fbank")


def states(key: str) -> torch.Tensor:
    return torch.randn(3, 40, 8, generator=torch.Generator().manual_seed(int(key[3:])))


@pytest.fixture
def store(tmp_path, fbank, monkeypatch) -> Store:
    """Three shards of two entries."""
    monkeypatch.setattr(store_module, "SHARD_BYTES", 3000)
    store = Store(tmp_path, fbank)
    store.add((key, states(key)) for key in KEYS)
    assert len(shards(store)) == 3
    return store


def shards(store: Store) -> list[Path]:
    return sorted(store.folder.glob("*.safetensors"))


def entries_of(store: Store, shard: Path) -> list[str]:
    return [key for key in KEYS if store._shards[key] == shard]


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def damages(path: Path):
    size = path.stat().st_size
    yield "cut by a byte", lambda: path.write_bytes(path.read_bytes()[:-1])
    yield "empty", lambda: path.write_bytes(b"")
    yield "a byte too many", lambda: path.write_bytes(path.read_bytes() + b"0")
    for position in (0, 12, 100, 250, size // 2, size - 1):  # length and text of the header, states
        yield f"bit of byte {position} flipped", lambda position=position: flip(path, position)


def test_every_damage_is_found_and_only_that_shard_is_made_anew(tmp_path, fbank, store, caplog) -> None:
    whole = shards(store)[1].read_bytes()
    for name, damage in damages(shards(store)[1]):
        caplog.clear()
        target, others = shards(store)[1], [shards(store)[0], shards(store)[2]]
        inodes = [path.stat().st_ino for path in others]
        lost = entries_of(store, target)
        damage()
        after = Store(tmp_path, fbank)
        assert set(after.missing(KEYS)) == set(lost), name
        assert f"{target.name} is damaged" in caplog.text, name
        after.add((key, states(key)) for key in lost)
        assert [path.stat().st_ino for path in others] == inodes, name
        for key in KEYS:
            assert torch.equal(Store(tmp_path, fbank).get(key), states(key).half()), name
        assert target.read_bytes() == whole, name  # the same entries give the same file
        store = after


def test_two_swapped_shards_are_found(tmp_path, fbank, store) -> None:
    first, second, third = shards(store)
    lost = entries_of(store, first) + entries_of(store, second)
    first.rename(tmp_path / "other")
    second.rename(first)
    (tmp_path / "other").rename(second)
    assert set(Store(tmp_path, fbank).missing(KEYS)) == set(lost)
    assert shards(store) == [third]


def test_a_shard_of_another_store_is_found(tmp_path, fbank, store) -> None:
    other = Store(tmp_path, fbank, dtype="bfloat16")
    other.add([("key0", -states("key0"))])
    (stray,) = shards(other)
    stray.rename(store.folder / stray.name)
    for path in shards(store):
        if path.name != stray.name:
            path.unlink()
    assert Store(tmp_path, fbank).missing(["key0"]) == ["key0"]


def test_damage_under_a_reader_is_a_sentence(tmp_path, fbank, store) -> None:
    reader = Store(tmp_path, fbank)
    flip(shards(store)[0], -1)
    with pytest.raises(ValueError, match="is damaged or gone. Run again: only its entries are computed again"):
        reader.get(entries_of(store, shards(store)[0])[0])
    shards(store)[2].unlink()
    with pytest.raises(ValueError, match="is damaged or gone"):
        reader.get(entries_of(store, sorted(set(store._shards.values()))[2])[0])


def write_and_stop(folder: Path, fbank, write_end: int) -> None:
    """Two shards, and the third by half: say so, and wait."""
    store_module.SHARD_BYTES = 3000
    write_bytes = Path.write_bytes

    def by_half(path, content):
        if len(list(folder.glob("*/*.safetensors"))) < 2:
            return write_bytes(path, content)
        write_bytes(path, content[: len(content) // 2])
        os.write(write_end, b"!")
        time.sleep(60)

    Path.write_bytes = by_half
    Store(folder, fbank).add((key, states(key)) for key in KEYS)


def test_a_writer_killed_in_the_middle_of_a_shard(tmp_path, fbank) -> None:
    read_end, write_end = os.pipe()
    writer = os.fork()
    if writer == 0:
        try:
            write_and_stop(tmp_path, fbank, write_end)
        finally:
            os._exit(1)
    os.close(write_end)
    assert os.read(read_end, 1) == b"!"
    os.kill(writer, signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(writer, 0)[1]) == signal.SIGKILL
    store = Store(tmp_path, fbank)
    assert store.missing(KEYS) == KEYS[4:]
    for key in KEYS[:4]:
        assert torch.equal(store.get(key), states(key).half())
    assert not list(store.folder.glob(".*.tmp"))  # what the killed one left is removed
    store.add((key, states(key)) for key in KEYS[4:])
    assert Store(tmp_path, fbank).missing(KEYS) == []


WRITER = """
import sys
from pathlib import Path
import torch
from undertone.upstream import load_upstream; from undertone.upstream.store import store
from undertone.upstream.store.store import Store

store.SHARD_BYTES = 3000
mine = Store(Path(sys.argv[1]), load_upstream("fbank"))
states = lambda i: torch.randn(3, 40, 8, generator=torch.Generator().manual_seed(i))
for i in range(60):
    for key in mine.missing([f"key{i}"]):
        mine.add([(key, states(i))])
for i in range(60):
    assert torch.equal(mine.get(f"key{i}"), states(i).half())
"""


@pytest.mark.slow
def test_two_processes_use_one_store_at_once(tmp_path, fbank) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)]) for _ in range(2)]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    store = Store(tmp_path, fbank)
    assert store.missing([f"key{i}" for i in range(60)]) == []
    assert torch.equal(store.get("key59"), states("key59").half())


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 256 kB, where this process may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_full_disk_ends_in_a_sentence_and_a_whole_store(tiny_disk, fbank, monkeypatch) -> None:
    monkeypatch.setattr(store_module, "SHARD_BYTES", 40_000)
    with pytest.raises(OSError, match="Cannot write .*No space left on device. Make room and run again"):
        Store(tiny_disk, fbank).add((f"key{i}", states("key0").repeat(1, 10, 1)) for i in range(100))
    store = Store(tiny_disk, fbank)
    assert 0 < len(store) < 100 and not list(store.folder.glob(".*"))
    assert len(store.missing([f"key{i}" for i in range(100)])) == 100 - len(store)
    assert torch.equal(store.get("key0"), states("key0").repeat(1, 10, 1).half())
