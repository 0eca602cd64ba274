"""benchmarks/gpu.py with tiny models: each check runs here, so that it runs the first time there is a GPU."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

SLOW = ("tests", "two_processes", "superb", "superb_30000")  # that start processes, or train twenty heads


@pytest.fixture(scope="module")
def gpu(load_script: Callable[[str], Any]) -> Any:
    return load_script("gpu")


@pytest.fixture(scope="module")
def place(gpu: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return gpu.Place(tmp_path_factory.mktemp("gpu"), "cpu", tiny=True)


NAMES = (
    "tests",
    "superb",
    "superb_30000",
    "extraction",
    "batching",
    "updates",
    "deterministic",
    "out_of_memory",
    "two_processes",
)


@pytest.mark.parametrize("name", [pytest.param(one, marks=[pytest.mark.slow] * (one in SLOW)) for one in NAMES])
def test_a_check_runs_and_is_a_row_of_the_file(name: str, gpu: Any, place: Any, tmp_path: Path) -> None:
    assert tuple(sorted(NAMES)) == tuple(sorted(gpu.CHECKS))
    gpu.run_checks([name], place, tmp_path / "gpu.json", 200.0)
    found = json.loads((tmp_path / "gpu.json").read_text())
    (row,) = found["rows"]
    assert row["check"] == name and row["passed"] is True, row
    assert found["tiny"] and found["machine"]["device"] == "cpu" and "running" not in found


def test_a_check_that_fails_or_takes_too_long_is_a_row_and_the_next_one_runs(
    gpu: Any, place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "gpu.json"

    def broken(_: Any) -> dict[str, Any]:
        raise RuntimeError("CUDA error: an illegal memory access")

    def slow(_: Any) -> dict[str, Any]:
        assert json.loads(out.read_text())["running"] == "slow"  # what a kill would leave
        assert [row["check"] for row in json.loads(out.read_text())["rows"]] == ["broken"]
        time.sleep(20)
        return {"passed": True}

    checks = {"broken": (broken, 60), "slow": (slow, 5.5), "good": (lambda _: {"passed": True, "figure": 1}, 60)}
    monkeypatch.setattr(gpu, "CHECKS", checks)
    rows = gpu.run_checks(list(checks), place, out)["rows"]
    assert [row["passed"] for row in rows] == [False, False, True]
    assert "illegal memory" in rows[0]["error"] and "stopped after 6 s" in rows[1]["error"] and rows[1]["seconds"] < 10
    assert rows[2]["figure"] == 1 and json.loads(out.read_text())["rows"] == rows
    late = gpu.run_checks(["good"], place, None, seconds=1.0)["rows"]
    assert late == [{"check": "good", "skipped": "no time was left", "seconds": late[0]["seconds"]}]


def test_without_a_gpu_it_says_so(gpu: Any, capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "torch sees no GPU here; --tiny tries the script on the CPU" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        gpu.main(["--tiny", "--only", "nothing"])
    assert "no check 'nothing'; there are tests, superb," in capsys.readouterr().err
