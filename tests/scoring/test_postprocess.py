"""Post-processing over time: each step undone where it was done to the truth, chosen on dev, applied to test."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import median_filter

from undertone.common.console import Display
from undertone.downstream.task import Task
from undertone.experiments.crossval import crossval
from undertone.scoring.metrics import ccc
from undertone.scoring.postprocess import DELAYS, STEPS, WINDOWS, Chain, choose_chain, postprocess
from undertone.scoring.predictions import Predictions
from undertone.training.settings import make_config

AROUSAL = Task("arousal", "regression", ("arousal",), level="frame")
IDS = ["a"] * 600 + ["b"] * 400


def curve(seed: int = 0) -> np.ndarray:
    """Slow values over time, of two utterances."""
    random = np.random.default_rng(seed)
    steps = random.normal(0, 1, 1000 + 100).cumsum()
    return np.convolve(steps, np.ones(101) / 101, mode="valid")[:1000] / 20


def test_each_step_is_what_it_says() -> None:
    values = curve()
    filtered = Chain(window=11)(values, IDS)
    for rows in (slice(0, 600), slice(600, 1000)):  # nothing leaks from one utterance into the next
        np.testing.assert_allclose(filtered[rows], median_filter(values[rows], 11, mode="nearest"))
        late = Chain(delay=3)(values, IDS)[rows]
        np.testing.assert_array_equal(late, np.r_[[values[rows][0]] * 3, values[rows][:-3]])
    np.testing.assert_allclose(Chain(offset=0.5)(values, IDS), values + 0.5)
    np.testing.assert_allclose(Chain(centre=2.0, scale=3.0)(values, IDS), 2 + 3 * (values - 2))
    np.testing.assert_array_equal(Chain()(values, IDS), values)
    assert len(Chain(delay=250)(values[:5], ["a"] * 5)) == 5


def delayed(values: np.ndarray, by: int) -> np.ndarray:
    return Chain(delay=by)(values, IDS)


@pytest.mark.parametrize("step", STEPS)
def test_dev_chooses_what_undoes_the_damage_and_only_what_is_switched_on(step: str) -> None:
    truth, random = curve(), np.random.default_rng(1)
    spikes = np.where(random.random(1000) < 0.1, random.normal(0, 3, 1000), 0)
    truth, values = {
        "median": (truth, truth + spikes),
        "centring": (truth, truth + 0.7),
        "scaling": (truth, truth.mean() + 0.4 * (truth - truth.mean())),
        "delay": (delayed(truth, 25), truth),
    }[step]
    chain = choose_chain([step], values, truth, IDS)
    before, after = ccc(truth, values), ccc(truth, chain(values, IDS))
    assert after > before + 0.005
    expected = {"centring": ("offset", -0.7), "scaling": ("scale", 2.5), "delay": ("delay", 25)}.get(step)
    if expected is not None:
        assert getattr(chain, expected[0]) == pytest.approx(expected[1], rel=1e-6) and after > 0.999
    others = [name for name in STEPS if name != step]
    off = choose_chain(others, values, truth, IDS)
    default = {
        "median": off.window == 1,
        "centring": off.offset == 0,
        "scaling": off.scale == 1,
        "delay": off.delay == 0,
    }
    assert default[step] and choose_chain([], values, truth, IDS) == Chain()


def test_what_makes_nothing_better_is_left_alone() -> None:
    truth = curve()
    assert choose_chain(STEPS, truth, truth, IDS) == Chain()
    assert choose_chain(STEPS, np.zeros(1000), np.full(1000, np.nan), IDS) == Chain()
    constant = choose_chain(STEPS, np.zeros(1000), truth, IDS)
    assert constant.scale == 1.0 and np.isfinite(constant(np.zeros(1000), IDS)).all()
    missing = np.where(np.arange(1000) % 3 == 0, np.nan, truth)
    assert choose_chain(["centring"], truth + 0.7, missing, IDS).offset == pytest.approx(-0.7)


def predictions(values: np.ndarray, truth: np.ndarray) -> Predictions:
    rows = len(values)
    return Predictions(
        tasks=(AROUSAL,),
        ids=IDS[:rows],
        folds=["f"] * rows,
        speakers=[None] * rows,
        genders=[None] * rows,
        scores={"arousal": values[:, None].astype(np.float32)},
        targets={"arousal": truth.astype(np.float32)},
    )


def test_test_is_given_what_dev_chose_whatever_its_own_truth_is() -> None:
    truth = curve()
    dev, other = predictions(truth + 0.7, truth), curve(5)
    found, chains = postprocess(["centring"], dev, predictions(other, other))
    np.testing.assert_allclose(found.scores["arousal"][:, 0], other - 0.7, atol=1e-5)
    again, same = postprocess(["centring"], dev, predictions(other, -other))
    np.testing.assert_array_equal(again.scores["arousal"], found.scores["arousal"])
    assert chains == same and chains["arousal"]["offset"] == pytest.approx(-0.7, abs=1e-5)
    assert max(WINDOWS) == 501 and max(DELAYS) == 250  # 20 s and 10 s at 25 Hz


@pytest.fixture
def traced(small_corpus: Path, tmp_path: Path) -> Path:
    """The small corpus with arousal on a grid of 40 ms: it reaches the utterance's own value within half a second."""
    rows = []
    with small_corpus.open() as file:
        for number, row in enumerate(csv.DictReader(file)):
            goal = float(row.pop("arousal"))
            lines = [f"{k / 25:.2f},{0.5 + (goal - 0.5) * min(1, k / 12)}" for k in range(100)]
            (tmp_path / f"{number}.csv").write_text("\n".join(["time,arousal", *lines]))
            rows.append(row | {"series": f"{number}.csv", "file": str(small_corpus.parent / row["file"])})
    table = tmp_path / "traced.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return table


@pytest.mark.parametrize(
    "words",
    [("postprocess=centring,scaling,median,delay",), pytest.param((), marks=pytest.mark.slow)],
    ids=["on", "off"],
)
def test_trigeorgis_over_time(words: tuple[str, ...], traced: Path, tmp_path: Path) -> None:
    from undertone.recipes.systems import load_system

    preset = load_system("trigeorgis2016") | {"postprocess": ()}
    given = ["tasks=series.arousal", "head.filters=2", "head.long_taps=50", "head.hidden_size=8", "protocol=groups"]
    given += ["num_folds=2", "max_epochs=2", f"store={tmp_path / 'store'}", "device=cpu", *words]
    out = tmp_path / "run"
    results = crossval(make_config({"corpus": str(traced)}, given, preset=preset), out, Display(quiet=True))
    found = Predictions.load(out / "predictions.parquet")
    pooled = ccc(found.targets["arousal"], found.scores["arousal"][:, 0])
    assert results["pooled"]["arousal"]["ccc"] == pytest.approx(pooled)  # over all test frames of all folds at once
    records = [json.loads(path.read_text()) for path in out.glob("folds/*/fold.json")]
    assert all(("postprocess" in record) == bool(words) for record in records) and len(records) == 2
    if words:
        assert all(record["postprocess"]["arousal"].keys() == Chain().__dict__.keys() for record in records)


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="postprocess.*median"):
        make_config({"corpus": "x"}, ["postprocess=mean"])
    with pytest.raises(ValueError, match="chosen on dev, which refit_on_dev trains on"):
        make_config({"corpus": "x"}, ["postprocess=delay", "refit_on_dev=true"])
    assert make_config({"corpus": "x"}, ["postprocess=median,delay"]).postprocess == ("median", "delay")
