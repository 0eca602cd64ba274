from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from undertone.common.console import Display
from undertone.common.files import read_json, write_json
from undertone.experiments.crossval import crossval
from undertone.experiments.sweep import combine, refit_plan
from undertone.scoring.metrics import uar
from undertone.scoring.predictions import Predictions
from undertone.scoring.results import title_lines
from undertone.training.config import RunConfig, trials
from undertone.training.settings import make_config

QUIET = Display(quiet=True)
WORDS = ["protocol=groups", "num_folds=2", "batch_size=8", "head.hidden_size=16", "max_epochs=5", "warmup=0"]


def config_of(corpus: Path | str, *words: str, **flags: object) -> RunConfig:
    return make_config({"corpus": str(corpus), **flags}, [*WORDS, *words])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"store={tmp_path_factory.mktemp('store')}"


@pytest.fixture(scope="module")
def run(small_corpus: Path, store: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rates, one of which learns nothing, each with two seeds."""
    out = tmp_path_factory.mktemp("runs") / "swept"
    crossval(config_of(small_corpus, "sweep.lr=1e-9,1e-2", "seeds=2", store), out, QUIET)
    return out


def test_every_combination_is_a_trial() -> None:
    config = config_of("emodb", "sweep.lr=1e-3,3e-4", "sweep.head.dropout=0,0.5", seeds="3,4,9")
    found = trials(config)
    assert len(found) == 2 * 2 * 3
    assert found[0].name == "learning_rate=0.001,head.dropout=0,seed=3"
    last = found[-1].config
    assert (last.learning_rate, last.head_options, last.seed) == (3e-4, {"hidden_size": 16, "dropout": 0.5}, 9)
    assert (last.seeds, last.sweep) == ((), {})
    assert len({trial.name for trial in found}) == len(found)
    assert trials(config_of("emodb", "head=svm", "head.hidden_size=1", "sweep.head.C=1,2"))[0].name == ""  # by task
    (only,) = trials(config_of("emodb"))
    assert (only.name, only.config) == ("", config_of("emodb"))


def test_a_number_of_seeds_counts_from_0() -> None:
    assert config_of("emodb", seeds="3").seeds == config_of("emodb", "seeds=0,1,2").seeds == (0, 1, 2)
    assert [trial.name for trial in trials(config_of("emodb", "seeds=2"))] == ["seed=0", "seed=1"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("seeds=1", "Setting 'seeds': give two different seeds or more; one alone is seed=NUMBER, got 1"),
        ("seeds=4,4", "two different seeds"),
        ("sweep.lr=0.1", "'learning_rate' needs two values or more, as sweep.learning_rate=a,b"),
        ("sweep.upstream=mfcc,fbank", "'upstream' cannot be swept. Did you mean 'upstream_learning_rate'"),
        ("sweep.lr=1e-3", "'learning_rate' needs two values or more"),
        ("sweep.learning_rate=1e-3,-1", "sweep: Setting 'learning_rate': input should be greater than 0, got -1"),
    ],
)
def test_what_cannot_be_swept_is_a_sentence(word: str, message: str) -> None:
    with pytest.raises(ValueError, match="^[^\n]*" + message.replace("(", r"\(")):
        config_of("emodb", word)


def test_an_unknown_option_of_the_head_is_noticed_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Head 'attention' has no option 'dropuot'. Did you mean 'dropout'"):
        crossval(config_of("emodb", "sweep.head.dropuot=0,0.5"), tmp_path / "run", QUIET)
    assert not (tmp_path / "run").exists()


def test_dev_chooses_the_rate_that_learns(run: Path) -> None:
    results = read_json(run / "results.json")
    for fold in results["folds"]:
        assert [trial["learning_rate"] for trial in fold["trials"]] == [1e-9, 1e-9, 1e-2, 1e-2]
        scores = [trial["dev_score"] for trial in fold["trials"]]
        assert np.mean(scores[2:]) > np.mean(scores[:2])
        assert fold["chosen"] == {"learning_rate": 1e-2}
        assert fold["dev_score"] == pytest.approx(np.mean(scores[2:]))
    means = [np.mean([[trial["dev_score"] for trial in fold["trials"]][part] for fold in results["folds"]])
             for part in (slice(2), slice(2, 4))]  # fmt: skip
    dev_scores = results["sweep"].pop("dev_scores")
    assert dev_scores == [
        {"learning_rate": rate, "mean": pytest.approx(mean)} for rate, mean in zip((1e-9, 1e-2), means, strict=True)
    ]
    assert results["sweep"] == {
        "values": {"learning_rate": [1e-9, 1e-2]},
        "how": "chosen on the dev part of each fold",
        "chosen": {fold["name"]: {"learning_rate": 1e-2} for fold in results["folds"]},
    }
    assert "Sweep: learning_rate of 1e-09, 0.01, chosen for each fold: learning_rate=0.01 in 2." in " ".join(
        title_lines(results)
    )


def test_only_what_dev_chose_reads_test(run: Path) -> None:
    """Rates that were not chosen leave a dev score and no prediction, of this way to train and of the stacked one."""
    for place in run.glob("folds/*/learning_rate=*"):
        chosen = place.name.startswith("learning_rate=0.01,")
        assert (place / "tried.json").is_file()
        assert (place / "predictions.parquet").is_file() == (place / "fold.json").is_file() == chosen
        assert not (place / "tried.safetensors").exists() and not (place / "checkpoints").exists()


def test_scores_are_the_mean_over_seeds(run: Path) -> None:
    results = read_json(run / "results.json")
    values = []
    for seed in (0, 1):
        parts = [
            Predictions.load(path)
            for path in sorted(run.glob(f"folds/*/learning_rate=0.01,seed={seed}/predictions.parquet"))
        ]
        task = parts[0].tasks[0]
        everything = Predictions.concat(parts)
        values.append(uar(everything.targets["emotion"], everything.predicted(task), len(task.labels)))
    assert len(set(values)) == 2
    assert results["pooled"]["emotion"]["uar"] == pytest.approx(np.mean(values))
    assert [part["metrics"]["emotion"]["uar"] for part in results["seed_scores"]["parts"]] == pytest.approx(values)
    assert results["seed_scores"]["mean"]["emotion"]["uar"] == pytest.approx(np.mean(values))
    assert results["seed_scores"]["std"]["emotion"]["uar"] == pytest.approx(np.std(values, ddof=1))
    assert (results["pooled"]["emotion"]["num"], results["ci_num_units"]) == (64, 4)
    assert results["seeds"] == [0, 1]
    assert any(line.startswith("Seeds 0, 1: UAR of emotion ") for line in title_lines(results))
    assert len(Predictions.load(run / "predictions.parquet")) == 2 * 64


def test_a_trial_is_the_run_of_its_config(run: Path, small_corpus: Path, store: str, tmp_path: Path) -> None:
    crossval(config_of(small_corpus, "lr=1e-2", "seed=0", store), tmp_path / "one", QUIET)
    for path in sorted((tmp_path / "one").glob("folds/*/predictions.parquet")):
        trial = run / "folds" / path.parent.name / "learning_rate=0.01,seed=0" / "predictions.parquet"
        np.testing.assert_array_equal(
            Predictions.load(path).scores["emotion"], Predictions.load(trial).scores["emotion"]
        )


def test_a_broken_off_sweep_is_taken_up(run: Path, small_corpus: Path, store: str, tmp_path: Path) -> None:
    again = shutil.copytree(run, tmp_path / "again")
    results = read_json(run / "results.json")
    first, second = (again / "folds" / fold["name"] for fold in results["folds"][:2])
    kept = first / "learning_rate=0.01,seed=0" / "fold.json"
    (first / "learning_rate=1e-09,seed=0" / "tried.json").unlink()
    write_json(kept, read_json(kept) | {"marked": True})
    shutil.rmtree(first / "learning_rate=0.01,seed=1")
    for path in (first / "fold.json", second / "fold.json", again / "results.json"):
        path.unlink()
    new = crossval(config_of(small_corpus, "sweep.lr=1e-9,1e-2", "seeds=2", store), again, QUIET)
    assert new is not None
    assert "marked" in read_json(kept)
    assert new["pooled"] == results["pooled"]
    assert new["seed_scores"] == results["seed_scores"]


def test_the_typical_seed_gives_the_folds_model(run: Path, tmp_path: Path) -> None:
    """Of three seeds the one with the middle dev score, and the first value of equals."""
    config = config_of("emodb", "sweep.lr=1e-3,1e-2", "seeds=3")
    source = next(run.glob("folds/*/learning_rate=0.01,seed=0"))
    for trial, score in zip(trials(config), (0.1, 0.9, 0.5, 0.5, 0.5, 0.5), strict=True):
        shutil.copytree(source, tmp_path / trial.name)
        record = {"dev_score": score, "best_step": int(100 * score), "seconds": 1.0}
        write_json(tmp_path / trial.name / "fold.json", record)
        write_json(tmp_path / trial.name / "tried.json", record)
    combine(tmp_path, trials(config))
    record = read_json(tmp_path / "fold.json")
    assert record["chosen"] == {"learning_rate": 1e-3}
    assert (record["best_step"], record["dev_score"], record["seconds"]) == (50, 0.5, 6.0)
    assert (tmp_path / "model" / "config.json").is_file()


def test_the_last_model_is_trained_as_most_folds_chose(run: Path) -> None:
    config = config_of("emodb", "sweep.lr=1e-3,1e-2", "seeds=3")
    rates = (1e-2, 1e-3, 1e-3, 1e-2, 1e-2)
    steps = (10, 500, 600, 30, 20)
    records = [
        {"chosen": {"learning_rate": rate}, "best_step": step, "num_train": step}
        for rate, step in zip(rates, steps, strict=True)
    ]
    chosen, step, num_train = refit_plan(config, records)
    assert (chosen.learning_rate, chosen.seed, chosen.sweep, step, num_train) == (1e-2, 0, {}, 20, 20)
    assert (run / "model" / "model.safetensors").is_file()
