"""When one of several processes fails, all end, and its sentence is seen."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from undertone.tests.cli.commands import finish, start
from undertone.tests.cli.test_processes import LAUNCH

HEAD = """
import os
from undertone.downstream.heads.attention import AttentionHead


class Failing(AttentionHead):
    def forward(self, streams):
        if self.training and os.environ["RANK"] == "1":
            raise ValueError("this process of the two cannot go on.")
        return super().forward(streams)
"""


@pytest.mark.slow
def test_one_process_that_fails_ends_all_with_its_message(small_corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text(HEAD)
    words = ("train", small_corpus, "protocol=speaker", "head.hidden_size=8", "max_epochs=2", "device=cpu")
    places = ("--head", tmp_path / "failing.py", "--out", tmp_path / "run", f"store={tmp_path / 'store'}")
    began = time.monotonic()
    outcome = finish(start(*words, *places, command=LAUNCH))
    assert outcome.status != 0 and time.monotonic() - began < 100
    assert "undertone: this process of the two cannot go on." in outcome.err
    assert not (tmp_path / "run" / "results.json").exists() and not list((tmp_path / "run").rglob("model.safetensors"))
