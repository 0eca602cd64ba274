"""Several trainings of a fold: for every seed, and for every value of a sweep, of which dev chooses one.

Every value is trained and scored on dev first; only what was chosen goes on to be refitted, and to predict test.
"""

from __future__ import annotations

import dataclasses
import itertools
import shutil
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undertone.files import atomic_path, read_json, read_record, safe_name, write_json
from undertone.training.attention import load_attention, save_attention
from undertone.training.embeddings import load_embeddings, save_embeddings
from undertone.training.predictions import Predictions

if TYPE_CHECKING:
    from undertone.training.config import RunConfig

SWEEPABLE = (
    "layers",
    "learning_rate",
    "upstream_learning_rate",
    "layer_sum_learning_rate",
    "weight_decay",
    "warmup",
    "schedule",
    "clip_norm",
    "batch_size",
    "max_epochs",
    "max_steps",
    "average_top",
    "lora_rank",
    "lora_alpha",
    "lora_dropout",
    "class_weights",
    "label_smoothing",
    "focal_gamma",
    "regression_loss",
    "task_weighting",
    "adversarial_weight",
)
"""Settings that change a training and neither the data nor the hidden states; besides, `head.NAME`, a head's option."""


WEIGHTS = "tried.safetensors"
TRIED = "tried.json"
"""Of a trial: its dev score and best step, written once it was trained and before anything is chosen."""

_KEPT = " =,[](){}:'\""  # characters of a trial's folder: numbers, words and lists look as they were given


@dataclasses.dataclass(frozen=True)
class Trial:
    """One training of a fold.

    Attributes:
        name: of its folder, RUN/folds/FOLD/NAME; empty where the fold is trained once.
        values: the swept settings.
        config: the run's, with these and one seed.
    """

    name: str
    values: dict[str, Any]
    config: RunConfig


def trials(config: RunConfig) -> list[Trial]:
    """Every combination of the sweep's values, each with every seed; one nameless trial where there are neither.

    Options that a head chooses for each task on its own (C of a fitted one) stay in the sweep of each trial's config.

    Raises:
        ValueError: a value that the setting does not take.
    """
    own = per_task_sweep(config)
    shared = {key: values for key, values in config.sweep.items() if key not in own}
    if not config.seeds and not shared:
        return [Trial("", {}, config)]
    found = []
    for combination in itertools.product(*shared.values()):
        values = dict(zip(shared, combination, strict=True))
        for seed in config.seeds or (config.seed,):
            shown = values | ({"seed": seed} if config.seeds else {})
            name = safe_name(",".join(f"{key}={value}" for key, value in shown.items()), safe=_KEPT)
            found.append(Trial(name, values, with_values(config, {**values, "seed": seed}, own)))
    return found


def per_task_sweep(config: RunConfig) -> dict[str, tuple[Any, ...]]:
    """The part of the sweep that the head chooses for each task on its own: `head.C` of a fitted head."""
    if not any(key.startswith("head.") for key in config.sweep):
        return {}
    from undertone.downstream.fitted_head import FittedHead
    from undertone.downstream.head import head_class

    head = head_class(config.head)
    if not issubclass(head, FittedHead):
        return {}
    return {key: values for key, values in config.sweep.items() if key.removeprefix("head.") in head.per_task}


def with_values(
    config: RunConfig, values: Mapping[str, Any], left: Mapping[str, tuple[Any, ...]] | None = None
) -> RunConfig:
    """The config of one training: `values` set, and nothing but `left` left to sweep."""
    settings = config.model_dump() | {"seeds": (), "sweep": dict(left or {})}
    for key, value in values.items():
        head, dot, option = key.partition(".")
        if dot:
            settings[f"{head}_options"] = {**settings[f"{head}_options"], option: value}
        else:
            settings[key] = value
    return type(config)(**settings)


def chosen_trials(folder: Path, plan: Sequence[Trial]) -> list[Trial]:
    """The trials, one a seed, of the values with the best mean dev score over the seeds; the first of equals.

    Args:
        folder: RUN/folds/FOLD, with the `TRIED` of every trial.
        plan: `trials` of the run's config.
    """
    scores: dict[str, list[float]] = {}
    for trial in plan:
        record = read_record(folder / trial.name / TRIED, dev_score=(int, float))
        scores.setdefault(str(trial.values), []).append(record["dev_score"])
    best = max(scores, key=lambda values: statistics.fmean(scores[values]))
    return [trial for trial in plan if str(trial.values) == best]


def combine(folder: Path, plan: Sequence[Trial]) -> None:
    """Make a fold's files from those of its trials; with fold.json it is done, and the trials' weights go.

    `predictions.parquet` holds the predictions of the chosen value with every seed, one after the other, so that an
    utterance has a row for each. Model, history, embeddings, layer weights and best step are those of the seed whose
    dev score is the median.

    Args:
        folder: RUN/folds/FOLD, with the `TRIED` of every trial and the fold.json of the chosen ones.
        plan: `trials` of the run's config.
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
    Predictions.concat([trial_predictions(folder, trial) for trial in chosen]).save(folder / "predictions.parquet")
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


def trial_predictions(folder: Path, trial: Trial) -> Predictions:
    """The test predictions of one trial of a fold."""
    return Predictions.load(folder / trial.name / "predictions.parquet")


def refit_plan(config: RunConfig, records: Sequence[Mapping[str, Any]]) -> tuple[RunConfig, int, int]:
    """How to train the model of all speakers: as most folds chose (the earliest of equals), and for how long.

    What was chosen for each task is counted task by task.

    Args:
        config: the run's.
        records: fold.json of every fold.

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
    """What results.json says of seeds and sweep: `seeds`, and `seed_scores` and `sweep` where there are any.

    Args:
        config: the run's.
        folders: fold -> RUN/folds/FOLD, finished.
    """
    from undertone.training.results import spread

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
                trial_predictions(folder, trial)
                for fold, folder in folders.items()
                for trial in plan
                if trial.config.seed == seed and trial.values.items() <= chosen[fold].items()
            ]
            parts.append((str(seed), Predictions.concat(own)))
        info["seed_scores"] = spread(parts)
    return info


def _together(words: Iterable[str]) -> str:
    """What all folds say, or each of several sayings with the number of folds."""
    counts = Counter(words)
    return "; ".join(word if len(counts) == 1 else f"{word} ({count} folds)" for word, count in counts.items())
