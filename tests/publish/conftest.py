"""A loopback Hub, and its client in a process of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from undertone.tests.publish.client import run as run_client
from undertone.tests.publish.loopback import TOKEN, LoopbackHub

Client = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    with LoopbackHub() as server:
        yield server


@pytest.fixture
def client(hub: LoopbackHub, tmp_path: Path) -> Client:
    """`client(code, *words, NAME="value")` runs code as a user of the loopback Hub; a value of None unsets NAME."""

    def run(code: str, *words: str, **changes: str | None) -> subprocess.CompletedProcess[str]:
        env = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
        env |= {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "hf_home"), "HF_TOKEN": TOKEN}
        env |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        env |= {"OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        env = {name: value for name, value in (env | changes).items() if value is not None}
        return run_client(code, words, env, tmp_path)

    return run
