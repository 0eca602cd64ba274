"""Several trainings of a fold, for every seed and every value of a sweep, one of which is chosen on dev.

Every value is trained and scored on dev first; only the chosen one is refitted and predicts test.
"""

from __future__ import annotations

import shutil
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undertone.common.files import atomic_path, read_json, read_record, write_json
from undertone.experiments.attention import load_attention, save_attention
from undertone.experiments.embeddings import load_embeddings, save_embeddings
from undertone.scoring.predictions import Predictions
from undertone.training.config import Trial, trials, with_values

if TYPE_CHECKING:
    from undertone.training.config import RunConfig


WEIGHTS = "tried.safetensors"
TRIED = "tried.json"
"""Of a trial: its dev score and best step, written when it is trained and before anything is chosen."""


def chosen_trials(folder: Path, plan: Sequence[Trial]) -> list[Trial]:
    """The trials, one a seed, of the values with the best mean dev score over the seeds; the first of equals.

    The folder is RUN/folds/FOLD, with the `TRIED` of every trial of the run's config.
    """
    scores: dict[str, list[float]] = {}
    for trial in plan:
        record = read_record(folder / trial.name / TRIED, dev_score=(int, float))
        scores.setdefault(str(trial.values), []).append(record["dev_score"])
    best = max(scores, key=lambda values: statistics.fmean(scores[values]))
    return [trial for trial in plan if str(trial.values) == best]


def combine(folder: Path, plan: Sequence[Trial]) -> None:
    """Make a fold's files from those of its trials; then the fold is done, and the trials' weights are removed.

    `predictions.parquet` holds the predictions of the chosen value with every seed, so that an utterance has a row for
    each. Model, history, embeddings, layer weights and best step are those of the seed with the median dev score.
    """
    tried = [read_record(folder / trial.name / TRIED, dev_score=(int, float)) for trial in plan]
    chosen = chosen_trials(folder, plan)
    records = {trial.name: read_record(folder / trial.name / "fold.json", dev_score=(int, float)) for trial in chosen}
    by_score = sorted(chosen, key=lambda trial: records[trial.name]["dev_score"])
    typical = by_score[(len(by_score) - 1) // 2]
    source = folder / typical.name
    with atomic_path(folder / "model") as draft:
        shutil.copytree(source / "model", draft)
    write_json(folder / "history.json", read_json(source / "history.json"))
    save_embeddings(folder, *load_embeddings(source))
    save_attention(folder, load_attention(source))
    Predictions.concat([_predictions(folder, trial) for trial in chosen]).save(folder / "predictions.parquet")
    others = [record["seconds"] for trial, record in zip(plan, tried, strict=True) if trial.name not in records]
    record = records[typical.name]
    summary = {
        "dev_score": statistics.fmean(one["dev_score"] for one in records.values()),
        "seconds": round(sum(others) + sum(one["seconds"] for one in records.values()), 2),
        "chosen": typical.values | record.get("chosen", {}),
        "trials": [
            {**trial.values, "seed": trial.config.seed, "dev_score": one["dev_score"]}
            for trial, one in zip(plan, tried, strict=True)
        ],
    }
    write_json(folder / "fold.json", record | summary)
    for trial in plan:
        (folder / trial.name / WEIGHTS).unlink(missing_ok=True)


def _predictions(folder: Path, trial: Trial) -> Predictions:
    return Predictions.load(folder / trial.name / "predictions.parquet")


def refit_plan(config: RunConfig, records: Sequence[Mapping[str, Any]]) -> tuple[RunConfig, int, int]:
    """How to train the model of all speakers: with the values that most folds chose (the earliest of equals).

    Values that are chosen for each task are counted task by task. The records are fold.json of every fold.

    Returns:
        the config of the one training, the median best step and the median number of training utterances of the
        folds that chose so.
    """
    chosen = [record.get("chosen", {}) for record in records]
    shared = [{key: value for key, value in one.items() if not isinstance(value, Mapping)} for one in chosen]
    most = Counter(map(str, shared)).most_common(1)[0][0]
    agreeing = [place for place, one in enumerate(shared) if str(one) == most]
    best_step = int(statistics.median(records[place]["best_step"] for place in agreeing))
    num_train = int(statistics.median(records[place]["num_train"] for place in agreeing))
    values = dict(shared[agreeing[0]])
    for key, by_task in chosen[agreeing[0]].items():
        if isinstance(by_task, Mapping):
            counts = {task: Counter(chosen[place][key][task] for place in agreeing) for task in by_task}
            values[key] = {task: count.most_common(1)[0][0] for task, count in counts.items()}
    return with_values(config, values), best_step, num_train


def _dev_scores(config: RunConfig, folds: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """The dev score of each combination of the sweep's values: {NAME: value, ..., "mean": over folds and seeds}."""
    found: dict[str, dict[str, Any]] = {}
    for record in (record for trials_of_fold in folds for record in trials_of_fold):
        values = {key: record[key] for key in config.sweep if key in record}
        found.setdefault(str(values), {**values, "scores": []})["scores"].append(record["dev_score"])
    return [entry | {"mean": statistics.fmean(entry.pop("scores"))} for entry in found.values()]


def sweep_info(config: RunConfig, folders: Mapping[str, Path]) -> dict[str, Any]:
    """What results.json says of the finished folds: `seeds`, and `seed_scores` and `sweep` where there are any."""
    from undertone.scoring.results import seed_scores

    info: dict[str, Any] = {"seeds": list(config.seeds or (config.seed,))}
    records = {fold: read_record(folder / "fold.json") for fold, folder in folders.items()}
    chosen = {fold: record.get("chosen", {}) for fold, record in records.items()}
    if config.sweep:
        info["sweep"] = {
            "values": {key: list(values) for key, values in config.sweep.items()},
            "how": f"chosen on {_together(record['chosen_by'] for record in records.values())}",
            "chosen": chosen,
            "dev_scores": _dev_scores(config, [record.get("trials", []) for record in records.values()]),
        }
    if config.seeds:
        plan, parts = trials(config), []
        for seed in config.seeds:
            own = [
                _predictions(folder, trial)
                for fold, folder in folders.items()
                for trial in plan
                if trial.config.seed == seed and trial.values.items() <= chosen[fold].items()
            ]
            parts.append((str(seed), Predictions.concat(own)))
        info["seed_scores"] = seed_scores(parts)
    return info


def _together(words: Iterable[str]) -> str:
    """What all folds say, or each different text with the number of folds."""
    counts = Counter(words)
    return "; ".join(word if len(counts) == 1 else f"{word} ({count} folds)" for word, count in counts.items())
