"""What is held of a store, and how much memory a training from a large one takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from undertone.corpora.manifest import Utterance
from undertone.training.feeding import StoreSource
from undertone.upstream import load_upstream
from undertone.upstream.store import Store


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
import json, re, sys
from pathlib import Path
import torch
from undertone.tests.training.test_feeding import utterances
from undertone.training.feeding import StoreSource
from undertone.upstream import load_upstream, store
store.MAX_OPEN = 2  # maps of 32 MB
MB = 2**20

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

filled = store.Store(Path(sys.argv[1]), load_upstream("mfcc"))
filled.add((f"hash{n}", torch.randn(13, 210, 768).half()) for n in range(56))
total = sum(path.stat().st_size for path in filled.folder.glob("*.safetensors")) / MB
clips, grown = utterances(56), [total]
for allowance in (total / 10, 2 * total):
    source, before = StoreSource(store.Store(Path(sys.argv[1]), load_upstream("mfcc")), int(allowance * MB)), peak()
    for _ in range(2):
        for start in range(0, 56, 4):
            source(clips[start : start + 4]).states.sum()
    grown.append(peak() - before)
print(json.dumps(grown))
"""


def test_a_store_ten_times_the_allowance_takes_no_more_than_allowance_maps_and_a_batch(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, tmp_path], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    total, streamed, held = json.loads(done.stdout)
    assert total > 220
    assert streamed < total / 10 + 2 * 34 + 2 * 34 + 16  # MB: allowance, maps, two float32 batches of 4, slack
    assert held > 0.7 * total, "the measure sees what is held"
