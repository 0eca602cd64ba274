"""Inputs of a few kilobytes that ask for gigabytes: none gets them."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from undertone.tests.faults.bounded import MARGIN
from undertone.tests.faults.targets import model_folder, sound, upstream_folder, whole_model_folder

SECONDS = 20.0  # each, on a busy machine
MAX_RATE = 768_000


def wav(rate: int = 16_000, claimed: int | None = None, samples: int = 4000) -> bytes:
    """A mono 16 bit wav whose header may lie."""
    data = bytes(2 * samples)
    size = len(data) if claimed is None else claimed
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, min(2 * rate, 2**32 - 1), 2, 16)
    return (
        struct.pack("<4sI4s", b"RIFF", min(size + 36, 2**32 - 1), b"WAVE")
        + form
        + struct.pack("<4sI", b"data", size)
        + data
    )


def flac(claimed: int) -> bytes:
    """A FLAC of 4,000 samples whose header claims more."""
    content = bytearray(sound("FLAC", samples=4000))
    packed = int.from_bytes(content[18:26], "big") >> 36 << 36 | claimed  # rate, channels, bits, 36 bits of samples
    content[18:26] = packed.to_bytes(8, "big")
    return bytes(content)


def mp3(frames: int) -> bytes:
    """An MP3 whose Xing header claims so many frames of 576 samples."""
    content = sound("MP3", samples=16_000)
    place = max(content.find(b"Xing"), content.find(b"Info"))
    assert place > 0 and content[place + 7] & 1  # the flags say that the frames are counted
    return content[: place + 8] + struct.pack(">I", frames) + content[place + 12 :]


def with_settings(source: Path, folder: Path, **values: Any) -> Path:
    """A copy of a model's folder with other settings of its (upstream's) architecture."""
    copy = Path(shutil.copytree(source, folder))
    config = json.loads((copy / "config.json").read_text())
    if "upstream" in config:
        config["upstream"]["config"] |= values
    else:
        config |= values
    (copy / "config.json").write_text(json.dumps(config))
    return copy


def wide_shard(folder: Path) -> Path:
    """A model whose head asks for 4 million x 4 million weights."""
    copy = Path(shutil.copytree(model_folder(), folder))
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"head_options": {"hidden_size": 4_000_000}}))
    return copy


LAUGHS = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9) if n else 'lol'}]" for n in range(12))
WIDER = "weights, its file"
WIDE = {"hidden_size": 2**18, "intermediate_size": 2**20, "num_attention_heads": 2}
CASES: dict[str, tuple[str, Callable[[Path], bytes | Path], str | None]] = {
    "wav that claims 4 GB": ("sound", lambda f: wav(claimed=2**32 - 1), None),
    "wav that claims 2 GB": ("sound", lambda f: wav(claimed=2**31 - 5000), "truncated: the header claims"),
    "wav at 4 GHz": ("sound", lambda f: wav(rate=2**31 - 1), "are read"),
    "wav at 1 Hz": ("sound", lambda f: wav(rate=1), "are read"),
    "wav at 44,101 Hz": ("sound", lambda f: wav(rate=44_101), None),
    "wav at 767,999 Hz": ("sound", lambda f: wav(rate=MAX_RATE - 1), None),
    "flac that claims 68 billion samples": ("sound", lambda f: flac(2**36 - 1), "damaged"),
    "flac that claims 10 hours": ("sound", lambda f: flac(576_000_000), "damaged"),
    "mp3 that claims 100 billion samples": ("sound", lambda f: mp3(2**27), "truncated: decoding stopped"),
    "upstream 260,000 wide": ("upstream", lambda f: with_settings(upstream_folder(), f / "u1", **WIDE), WIDER),
    "upstream of a billion layers": (
        "upstream", lambda f: with_settings(upstream_folder(), f / "u2", num_hidden_layers=10**9), "is not allowed"
    ),
    "model 260,000 wide": ("model", lambda f: with_settings(whole_model_folder(), f / "m1", **WIDE), WIDER),
    "model of a billion layers": (
        "model", lambda f: with_settings(whole_model_folder(), f / "m2", num_hidden_layers=10**9), "is not allowed"
    ),
    "head 4 million wide": ("model", lambda f: wide_shard(f / "m3"), WIDER),
    "YAML of a billion laughs": ("settings", lambda f: LAUGHS.encode(), "alias"),
    "a trillion seeds": ("settings", lambda f: b"seeds: 1000000000000", "more than 1000 trainings"),
    "a sweep of 10^10": (
        "settings",
        lambda f: f"sweep: {{{', '.join(f'head.x{n}: [1,2,3,4,5,6,7,8,9,10]' for n in range(10))}}}".encode(),
        "more than 1000 trainings",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of every case, in one process."""
    folder = tmp_path_factory.mktemp("bombs")
    bad = []
    for number, (kind, make, _) in enumerate(CASES.values()):
        made = make(folder)
        path = made if isinstance(made, Path) else folder / f"case{number}"
        if isinstance(made, bytes):
            path.write_bytes(made)
        bad.append((kind, path))
    (folder / "good.wav").write_bytes(sound())
    good = [
        ("sound", str(folder / "good.wav")),
        ("upstream", str(upstream_folder())),
        ("model", str(whole_model_folder())),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "undertone.tests.faults.bounded"],
        input=json.dumps([good, bad], default=str), capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout)
    return dict(zip(CASES, result["outcomes"], strict=True)) | {"grown_mb": result["grown_mb"]}


@pytest.mark.parametrize("case", CASES)
def test_a_small_input_takes_little_memory_and_time(case: str, outcomes: dict[str, Any]) -> None:
    expected, outcome = CASES[case][2], outcomes[case]
    if expected is None:
        assert outcome["error"] is None, outcome
    else:
        assert outcome["error"] in ("ValueError", "AudioError") and expected in outcome["text"], outcome
    assert outcome["seconds"] < SECONDS


def test_the_bound_bounds(outcomes: dict[str, Any]) -> None:
    assert outcomes["grown_mb"] < MARGIN / 2**20


def test_a_model_that_fits_its_file_loads(tmp_path: Path) -> None:
    """The check of sizes does not refuse what is whole, in half precision too."""
    from safetensors.torch import load_file

    from undertone.upstream import load_upstream

    half = Path(shutil.copytree(upstream_folder(), tmp_path / "half"))
    state = {name: tensor.to(torch.float16) for name, tensor in load_file(half / "model.safetensors").items()}
    (half / "model.safetensors").write_bytes(save(state, {"format": "pt"}))
    assert load_upstream(str(half)).num_layers == load_upstream(str(upstream_folder())).num_layers
