"""Several trainings of a fold: for every seed, and for every value of a sweep, of which dev chooses one."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undertone.files import atomic_path, read_json, write_json
from undertone.training.attention import load_attention, save_attention
from undertone.training.embeddings import load_embeddings, save_embeddings
from undertone.training.predictions import Predictions

if TYPE_CHECKING:
    from undertone.training.config import RunConfig

SWEEPABLE = (
    "learning_rate",
    "upstream_learning_rate",
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

    Raises:
        ValueError: a value that the setting does not take.
    """
    if not config.seeds and not config.sweep:
        return [Trial("", {}, config)]
    found = []
    for combination in itertools.product(*config.sweep.values()):
        values = dict(zip(config.sweep, combination, strict=True))
        for seed in config.seeds or (config.seed,):
            shown = values | ({"seed": seed} if config.seeds else {})
            name = ",".join(f"{key}={value}" for key, value in shown.items())
            found.append(Trial(name, values, with_values(config, {**values, "seed": seed})))
    return found


def with_values(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """The config of one training: `values` set, nothing left to sweep."""
    settings = config.model_dump() | {"seeds": (), "sweep": {}}
    for key, value in values.items():
        head, dot, option = key.partition(".")
        if dot:
            settings[f"{head}_options"] = {**settings[f"{head}_options"], option: value}
        else:
            settings[key] = value
    return type(config)(**settings)


def combine(folder: Path, plan: Sequence[Trial]) -> None:
    """Make a fold's files from those of its finished trials; fold.json is written last.

    Of the sweep's values the one with the best mean dev score over the seeds is chosen (the first of equals); the test
    part is not looked at. `predictions.parquet` then holds its predictions with every seed, one after the other, so
    that an utterance has a row for each. Model, history, embeddings, layer weights and best step are those of the seed
    whose dev score is the median.

    Args:
        folder: RUN/folds/FOLD.
        plan: `trials` of the run's config.
    """
    records = [read_json(folder / trial.name / "fold.json") for trial in plan]
    groups: dict[str, list[int]] = {}
    for place, trial in enumerate(plan):
        groups.setdefault(str(trial.values), []).append(place)
    chosen = max(groups.values(), key=lambda group: statistics.fmean(records[place]["dev_score"] for place in group))
    by_score = sorted(chosen, key=lambda place: records[place]["dev_score"])
    typical = by_score[(len(by_score) - 1) // 2]
    source = folder / plan[typical].name
    with atomic_path(folder / "model") as draft:
        shutil.copytree(source / "model", draft)
    write_json(folder / "history.json", read_json(source / "history.json"))
    save_embeddings(folder, *load_embeddings(source))
    save_attention(folder, load_attention(source))
    Predictions.concat([trial_predictions(folder, plan[place]) for place in chosen]).save(
        folder / "predictions.parquet"
    )
    summary = {
        "dev_score": statistics.fmean(records[place]["dev_score"] for place in chosen),
        "seconds": round(sum(record["seconds"] for record in records), 2),
        "chosen": plan[typical].values,
        "trials": [
            {**trial.values, "seed": trial.config.seed, "dev_score": record["dev_score"]}
            for trial, record in zip(plan, records, strict=True)
        ],
    }
    write_json(folder / "fold.json", records[typical] | summary)


def trial_predictions(folder: Path, trial: Trial) -> Predictions:
    """The test predictions of one trial of a fold."""
    return Predictions.load(folder / trial.name / "predictions.parquet")


def refit_plan(config: RunConfig, records: Sequence[Mapping[str, Any]]) -> tuple[RunConfig, int, int]:
    """How to train the model of all speakers: as most folds chose (the earliest of equals), and for how long.

    Args:
        config: the run's.
        records: fold.json of every fold.

    Returns:
        the config of the one training, the median best step and the median number of training utterances of the
        folds that chose so.
    """
    counts = Counter(str(record.get("chosen", {})) for record in records)
    most = counts.most_common(1)[0][0]
    agreeing = [record for record in records if str(record.get("chosen", {})) == most]
    best_step = int(statistics.median(record["best_step"] for record in agreeing))
    num_train = int(statistics.median(record["num_train"] for record in agreeing))
    return with_values(config, agreeing[0].get("chosen", {})), best_step, num_train


def sweep_info(config: RunConfig, folders: Mapping[str, Path]) -> dict[str, Any]:
    """What results.json says of seeds and sweep: `seeds`, and `seed_scores` and `sweep` where there are any.

    Args:
        config: the run's.
        folders: fold -> RUN/folds/FOLD, finished.
    """
    from undertone.training.results import spread

    info: dict[str, Any] = {"seeds": list(config.seeds or (config.seed,))}
    chosen = {fold: read_json(folder / "fold.json").get("chosen", {}) for fold, folder in folders.items()}
    if config.sweep:
        info["sweep"] = {
            "values": {key: list(values) for key, values in config.sweep.items()},
            "how": "chosen on dev, for each fold",
            "chosen": chosen,
        }
    if config.seeds:
        plan, parts = trials(config), []
        for seed in config.seeds:
            own = [
                trial_predictions(folder, trial)
                for fold, folder in folders.items()
                for trial in plan
                if trial.config.seed == seed and trial.values == chosen[fold]
            ]
            parts.append((str(seed), Predictions.concat(own)))
        info["seed_scores"] = spread(parts)
    return info
