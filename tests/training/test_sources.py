"""What is held of a store, and how much memory a training from a large one takes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from undertone.corpora.manifest import Utterance
from undertone.training.sources import StoreSource
from undertone.upstream import load_upstream
from undertone.upstream.store.store import Store


def utterances(count: int) -> list[Utterance]:
    return [Utterance(id=f"u{n}", path=f"u{n}.wav", corpus="made", audio_hash=f"hash{n}") for n in range(count)]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_what_is_held_is_what_is_stored(dtype: str, tmp_path: Path) -> None:
    """With room for all, some or none: the same batches, and once all is held the store's files may go."""
    states = [torch.randn(3, 4 + n, 5) for n in range(6)]
    store = Store(tmp_path, load_upstream("mfcc"), dtype=dtype)
    store.add((f"hash{n}", value) for n, value in enumerate(states))
    clips, size = utterances(6), states[0].to(getattr(torch, dtype)).nbytes
    whole, some, none = (StoreSource(store, allowance) for allowance in (10**6, 3 * size, 0))
    for source, held in ((whole, 6), (some, 2), (none, 0)):
        batch = source(clips)
        assert batch.states.dtype == getattr(torch, dtype) and batch.lengths.tolist() == [4, 5, 6, 7, 8, 9]
        for row, value in zip(batch.states, states, strict=True):
            kept = value.to(getattr(torch, dtype))
            assert torch.equal(row[:, : value.shape[1]], kept) and not row[:, value.shape[1] :].any()
        assert len(source.held) == held and source.room >= 0
        assert torch.equal(source(clips[::-1]).states, batch.states.flip(0))
    for shard in store.folder.glob("*.safetensors"):
        shard.write_bytes(b"")
    assert torch.equal(whole(clips).states, batch.states)


SCRIPT = """
import re, sys
from pathlib import Path
from undertone.tests.training.test_sources import CLIPS, utterances
from undertone.training.sources import StoreSource
from undertone.upstream import load_upstream; from undertone.upstream.store import store
store.OPEN_BYTES = 70 * 2**20  # two maps of 32 MB

def memory(kind):
    return int(re.search(kind + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

source = StoreSource(store.Store(Path(sys.argv[1]), load_upstream("mfcc")), int(sys.argv[2]))
clips, before = utterances(CLIPS), memory("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the peak is that of the reading, not of the imports
for _ in range(2):
    for start in range(0, CLIPS, 4):
        source(clips[start : start + 4]).states.sum()
print(memory("VmHWM") - before)
"""
CLIPS, MB = 56, 2**20


def growth(store: Path, allowance: int) -> float:
    """MB that a process, which does nothing else, grows by while it reads a store twice.

    Of what is in use: with a fixed threshold malloc gives freed tensors back to the system at once.
    """
    command = [sys.executable, "-c", SCRIPT, store, str(allowance)]
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(MB)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


@pytest.mark.slow
def test_a_store_ten_times_the_allowance_takes_no_more_than_allowance_maps_and_a_batch(tmp_path: Path) -> None:
    store = Store(tmp_path, load_upstream("mfcc"))
    store.add((f"hash{n}", torch.randn(13, 210, 768).half()) for n in range(CLIPS))
    total = sum(path.stat().st_size for path in store.folder.glob("*.safetensors"))
    assert total > 220 * MB
    # Maps, two float32 batches of 4, slack.
    assert growth(tmp_path, total // 10) < total / 10 / MB + 2 * 34 + 2 * 34 + 16
    assert growth(tmp_path, 2 * total) > total / MB, "the measure sees what is held"
