"""The short form of `kills.py`: some kills of each job, and every one ends as if nothing had been."""

from __future__ import annotations

from pathlib import Path

import pytest

from undertone.tests.faults.kills import JOBS, make_corpus, try_job

MOMENTS = 2


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.mark.parametrize("job", JOBS)
def test_killed_and_resumed(job: str, corpus: Path, tmp_path: Path) -> None:
    killed = try_job(job, corpus, tmp_path, MOMENTS)
    assert [problem for one in killed for problem in one.wrong] == []
    assert len(killed) == MOMENTS
