"""benchmarks/precisions.py on a small synthetic corpus."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from undertone.common.files import read_json
from undertone.upstream import load_upstream
from undertone.upstream.hf.random_weights import save_random


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], Any]) -> Any:
    return load_script("precisions")


def test_errors_of_each_layer_and_the_probe_s_change(script: Any, small_corpus: Path, tmp_path: Path) -> None:
    other, out, drawn = save_random("tiny-wav2vec2", tmp_path / "random"), tmp_path / "found.json", tmp_path / "a.png"
    words = [str(small_corpus), "--upstream", "tiny", "--upstream", str(other), "--store", str(tmp_path / "store")]
    script.main([*words, "--clips", "5", "--seeds", "2", "--out", str(out), "--plot", str(drawn)])
    found = read_json(out)
    assert drawn.read_bytes().startswith(b"\x89PNG") and str(tmp_path) not in out.read_text()
    names = [script.name_of(one) for one in script.precisions(torch.device("cpu"), load_upstream("tiny"))]
    assert list(found["upstreams"]) == ["tiny", "random"] and names[0] == "float32"
    for upstream, layers in (("tiny", 7), ("random", 3)):
        assert list(found["upstreams"][upstream]) == names
        for name, errors in found["upstreams"][upstream].items():
            against, padded = errors["against_float32"], errors["padded_against_alone"]
            assert len(against["median"]) == len(padded["worst"]) == layers
            if name == "float32":
                assert not any(against["worst"]) and max(padded["worst"]) < 1e-5
            else:
                assert 1e-4 < against["median"][-1] <= against["worst"][-1] < 0.1
    (row,) = found["probes"].values()
    assert row["clips"] == 64 and list(row["trained"]) == names and list(row["predicting"]) == names[1:]
    exact = row["trained"]["float32"]
    assert exact["largest_points"] == 0 and len(exact["uar"]) == 2 and 25 < exact["mean_uar"] <= 100


def test_differences_are_taken_within_a_seed(script: Any) -> None:
    found = script.compare([60.0, 63.0, 61.0], [61.0, 61.0, 61.0])
    assert found["mean_uar"] == 61.333 and found["mean_points"] == 0.333 and found["largest_points"] == 2
    assert found["std_points"] == 1.528 and found["uar"] == [60, 63, 61]


def test_errors_are_median_and_worst_of_all_frames(script: Any) -> None:
    exact = [torch.ones(1, 2, 4), torch.ones(1, 1, 4)]
    some = [exact[0] * torch.tensor([1.0, 1.1])[None, :, None], exact[1] * 0.5]
    assert script.by_layer(some, exact) == {"median": [0.1], "worst": [0.5]}
