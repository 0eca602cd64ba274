"""The scores of a run: the content of results.json, and what terminal, report and card show of them."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from undertone.downstream.task import Task
from undertone.scoring.intervals import METHOD, confidence_intervals
from undertone.scoring.metrics import confusion_matrix
from undertone.scoring.predictions import Predictions


def score(predictions: Predictions) -> dict[str, dict[str, Any]]:
    """Every metric of every task, over the utterances whose target is known, computed by `evaluate.Metric`s.

    Returns:
        task -> {uar, wa, macro_f1, ece, recall: {label: value}, num} for a classification, {ccc, rmse, num} for a
        regression; `num` counts the utterances scored (with several seeds, once). NaN where a value is not defined.
    """
    with tempfile.TemporaryDirectory() as cache_dir:
        return {task.name: _score_task(predictions, task, cache_dir) for task in predictions.tasks}


def _score_task(predictions: Predictions, task: Task, cache_dir: str) -> dict[str, Any]:
    from undertone.scoring.evaluate_metrics import ScoreMetric

    rows = predictions.known(task)
    num = len({predictions.ids[row] for row in np.flatnonzero(rows)})
    values = {"predictions": predictions.predicted(task)[rows], "references": predictions.targets[task.name][rows]}
    if task.kind == "classification":
        values |= {"probabilities": predictions.scores[task.name][rows], "num_classes": len(task.labels)}
    scores: dict[str, Any] = ScoreMetric(task.kind, cache_dir=cache_dir, keep_in_memory=True).compute(**values)
    if task.kind == "classification":
        scores["recall"] = dict(zip(task.labels, scores["recall"], strict=True))
    return scores | {"num": num}


def per_gender(predictions: Predictions) -> dict[str, dict[str, dict[str, Any]]]:
    """`score` of each known gender's utterances apart: {gender: {task: {...}}}, without the task `gender` itself."""
    rest = predictions.without(["gender"])
    genders = np.array([gender or "" for gender in predictions.genders], dtype=str)
    return {str(gender): score(rest.select(genders == gender)) for gender in np.unique(genders) if gender}


METRICS = {"uar": "UAR", "wa": "WA", "macro_f1": "macro-F1", "ece": "ECE", "ccc": "CCC", "rmse": "RMSE"}
MAIN = {"classification": ("uar", "wa", "macro_f1"), "regression": ("ccc", "rmse")}
"""The metrics that short tables and figures show, by the kind of task; the first one is the task's main metric."""

HEADER = ["Task", "Metric", "Mean over folds", "Pooled", "95 % interval", "Chance"]
ONE_FOLD_HEADER = ["Task", "Metric", "Test", "95 % interval", "Chance"]
EVALUATE = "evaluate"  # protocol of results of a finished model on a whole corpus
_NEEDED = ("corpus", "upstream", "head", "protocol", "speaker_independent")
_PERCENT = {"uar", "wa", "macro_f1", "ece", "recall"}


def summarise(per_fold: Sequence[tuple[str, Predictions]], info: Mapping[str, Any]) -> dict[str, Any]:
    """The content of results.json: `info`, and the scores of the folds' test predictions.

    Adds `tasks`, `folds` [{name, metrics: {task: {metric: value}}}], `pooled` (all test utterances as one set), `mean`
    and `std` over the folds that have a value (sample standard deviation, n - 1; null for one fold, and for metrics
    that mean something else in a fold than over all: UAR and macro-F1 where a fold lacks a class, as with the gender
    of a single test speaker, and CCC always, which depends on the range of all targets), `ci95` with `ci_method`,
    `ci_unit`, `ci_num_units` and `ci_notes` (why an interval is missing), `per_gender`, `chance` (UAR of a constant
    prediction, 1 / number of classes that occur; WA of always predicting the most frequent class) and `confusion`
    (counts, rows are true classes). Fractions are in 0..1. NaN becomes null.

    Args:
        per_fold: (name, test predictions) of each fold, in order.
        info: what else is known of the run; `corpus, upstream, head, protocol, speaker_independent` are required.

    Raises:
        ValueError: no folds, duplicate names, tasks that differ between folds, a key of `info` that is missing or
            that is one of the above.
    """
    names = [name for name, _ in per_fold]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"Results need one fold or more, each with a unique name, got {names}.")
    if missing := [key for key in _NEEDED if key not in info]:
        raise ValueError(f"Results cannot be written without {', '.join(missing)}: these say what was measured.")
    pooled = Predictions.concat([predictions for _, predictions in per_fold])
    folds = [{"name": name, "metrics": score(predictions)} for name, predictions in per_fold]
    comparable = _comparable(folds, per_fold, pooled)
    intervals, notes = confidence_intervals(pooled)
    results = {
        "tasks": [task.to_dict() for task in pooled.tasks],
        "folds": folds,
        **_mean_and_std(comparable),
        "pooled": score(pooled),
        "ci95": intervals,
        "ci_method": METHOD,
        "ci_unit": "speaker",
        "ci_num_units": len(set(pooled.speakers) - {None}),
        "ci_notes": notes,
        "per_gender": per_gender(pooled),
        "chance": {task.name: chance(pooled, task) for task in pooled.tasks},
        "confusion": {task.name: _confusion(pooled, task) for task in pooled.tasks if task.kind == "classification"},
    }
    if taken := sorted(set(results) & set(info)):
        raise ValueError(f"info must not hold {', '.join(taken)}: these are computed from the predictions.")
    return dict(to_json({**info, **results}))


def is_evaluation(results: Any) -> bool:
    """Whether results come from `undertone evaluate`, which trains nothing."""
    return isinstance(results, Mapping) and results.get("protocol") == EVALUATE


def only_fold(results: Mapping[str, Any]) -> str | None:
    """The fold that `undertone train` trained; None for a cross-validation, which also fits a model on all speakers."""
    names = [str(fold["name"]) for fold in results["folds"]]
    return names[0] if len(names) == 1 and "refit_steps" not in results.get("cost", {}) else None


def seed_scores(parts: Sequence[tuple[str, Predictions]]) -> dict[str, Any]:
    """The scores of runs that differ in their seed alone, given as (name, all test predictions).

    Returns `parts` [{name, metrics}], and their `mean` and `std` (n - 1), each {task: {metric: value}}.
    """
    scored = [{"name": name, "metrics": score(predictions)} for name, predictions in parts]
    return dict(to_json({"parts": scored, **_mean_and_std(scored)}))


def results_table(results: Mapping[str, Any]) -> tuple[list[str], list[str], list[list[str]]]:
    """The scores of a run as terminal, report and card show them.

    Returns:
        title lines, which say what the numbers are (speaker-dependent, random weights, unit of the interval); the
        header; rows of text: task, metric, mean ± standard deviation over the folds, pooled, 95 % interval, chance.
        A single fold has its test score in place of mean and pooled. Fractions are in percent, CCC and RMSE as they
        are; "–" where there is no value.
    """
    one_fold, rows = len(results["folds"]) == 1, []
    for task, pooled in results["pooled"].items():
        for metric in (metric for metric in METRICS if metric in pooled):
            mean = mean_text(results, task, metric)
            by_chance = number(metric, results["chance"][task].get(metric))
            row = [number(metric, pooled[metric]), interval_text(results, task, metric) or "–", by_chance]
            rows.append([task, METRICS[metric], *([] if one_fold else [mean]), *row])
        if calibrated := results.get("calibration", {}).get(task):
            after = number("ece", calibrated["ece_after"])
            rows.append([task, "ECE, calibrated", *([] if one_fold else ["–"]), after, "–", "–"])
    return title_lines(results), list(ONE_FOLD_HEADER if one_fold else HEADER), rows


def mean_text(results: Mapping[str, Any], task: str, metric: str) -> str:
    """`70.1 ± 3.2`, mean and standard deviation over the folds; "–" where a fold's value means something else."""
    values = [results[key][task].get(metric) for key in ("mean", "std")]
    return " ± ".join(number(metric, value) for value in values if value is not None) or "–"


def interval_text(results: Mapping[str, Any], task: str, metric: str) -> str:
    """`65.0 – 77.1`; "" where there is no interval."""
    return ends_text(metric, results["ci95"][task].get(metric))


def gender_table(results: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of each task's main metrics and number of utterances by gender; no rows without genders."""
    genders = results["per_gender"]
    rows = []
    for task in (task for task in results["tasks"] if genders and task["name"] != "gender"):
        name, scores = task["name"], [of_gender[task["name"]] for of_gender in genders.values()]
        for metric in MAIN[task["kind"]]:
            rows.append([name, METRICS[metric], *(number(metric, one[metric]) for one in scores)])
        rows.append([name, "utterances", *(str(one["num"]) for one in scores)])
    return ["Task", "Metric", *genders], rows


def title_lines(results: Mapping[str, Any]) -> list[str]:
    """Sentences without which the numbers would be misread; the first names the run."""
    count = len(results["folds"])
    variant = f" ({results['corpus_variant']})" if results.get("corpus_variant") else ""
    lines = [
        f"{results['corpus']}{variant}: upstream {results['upstream']}, head {results['head']}, "
        f"protocol {results['protocol']}, {count} fold{'s' * (count > 1)}"
    ]
    if not results["speaker_independent"]:
        lines.append("SPEAKER-DEPENDENT: test speakers may be in training; expect lower scores on new speakers.")
    elif results["protocol"] == EVALUATE:
        lines.append("Speaker-independent: none of these speakers was in the model's training data.")
    elif results.get("dev_shares_speakers"):
        lines.append("Speaker-independent test; dev shares speakers with train.")
    else:
        lines.append("Speaker-independent: train, dev and test of a fold share no speaker.")
    if results.get("upstream_weights") == "random":
        lines.append(f"RANDOM-WEIGHT UPSTREAM: {results['upstream']} was never trained; this run is a control.")
    if isinstance(results.get("layers"), int):
        lines.append(f"Layer {results['layers']} alone, of the layers 0 to {results['num_layers'] - 1}.")
    if results.get("split_fingerprint"):
        lines.append(f"Split fingerprint {results['split_fingerprint']}, of the audio in each part of the folds.")
    lines += [f"WARNING: {line}" for line in results.get("label_warnings", ())]
    lines += _leakage_lines(results) + _selection_lines(results) + _trial_lines(results)
    lines += results.get("ci_notes", [])
    intervals, units = "", f"{results['ci_num_units']} {results['ci_unit']}s"
    if any(ends[0] is not None for metrics in results["ci95"].values() for ends in metrics.values()):
        intervals = f"95 % intervals, for new speakers: jackknife over {units}, Student's t. "
        if "ci_method" not in results:
            intervals = (
                f"95 % intervals: bootstrap over {units}, by an earlier version and too narrow for few speakers; "
                f"`undertone rerun` repeats the run. "
            )
    pooled = "Pooled: all test utterances as one set. " if count > 1 else ""
    lines.append(f"{intervals}{pooled}Fractions in %.")
    return lines


def probe_scores(results: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """{adversarial column: (UAR, chance) of a new linear probe on the training embeddings, averaged over the folds}."""
    scores = {}
    for name in results["folds"][0].get("leakage", {}):
        found = [fold["leakage"][name] for fold in results["folds"] if fold.get("leakage", {}).get(name)]
        if found:
            value, chance = (float(np.mean([one[key] for one in found])) for key in ("uar", "chance"))
            scores[name] = value, chance
    return scores


def _leakage_lines(results: Mapping[str, Any]) -> list[str]:
    """How well a new probe predicts an adversarial task from the embeddings."""
    return [
        f"Adversarial {name}: a new linear probe still predicts it from the training embeddings with UAR "
        f"{number('uar', value)} (chance {number('uar', chance)})."
        for name, (value, chance) in probe_scores(results).items()
    ]


def _selection_lines(results: Mapping[str, Any]) -> list[str]:
    """The dev metrics that selected, on which utterances, and in how many folds where not in all."""
    found = results.get("selected_by")
    if not found or not found["metrics"]:
        return []
    folds = len(results["folds"])
    words = []
    for task, counts in found["metrics"].items():
        metric, used = next(iter(counts.items()))
        words.append(f"{METRICS[metric]} of {task}" + (f" (in {used} of {folds} folds)" if used < folds else ""))
    if found["per_task"]:
        return [f"Selected by {', '.join(words)}, each task separately, on {found['on']}."]
    mean = "the mean of " if len(words) > 1 else ""
    return [f"Selected by {mean}{' and '.join(words)}, on {found['on']}."]


def _trial_lines(results: Mapping[str, Any]) -> list[str]:
    """What a sweep chose, and the scores over seeds."""
    lines = []
    if "sweep" in results:
        values = "; ".join(f"{key} of {_values_text(some)}" for key, some in results["sweep"]["values"].items())
        chosen = [list(_choices(one)) for one in results["sweep"]["chosen"].values()]
        shared = Counter(", ".join(choice for task, choice in one if not task) for one in chosen)
        by_task = Counter(f"{task} {choice}" for one in chosen for task, choice in one if task)
        picked = "; ".join(f"{name} in {n}" for name, n in [*shared.most_common(), *sorted(by_task.items())] if name)
        lines.append(f"Sweep: {values}, chosen for each fold: {picked}.")
    if "seed_scores" in results:
        task = results["tasks"][0]
        metric = MAIN[task["kind"]][0]
        mean, std = (results["seed_scores"][key][task["name"]][metric] for key in ("mean", "std"))
        seeds = ", ".join(map(str, results["seeds"]))
        lines.append(
            f"Seeds {seeds}: {METRICS[metric]} of {task['name']} {number(metric, mean)} ± {number(metric, std)} over "
            f"seeds. Below, each utterance counts once per seed: the scores are those of single models, not of an "
            f"ensemble."
        )
    return lines


def _choices(chosen: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(task, `setting=value`) of a fold; the task is "" where all tasks share the choice."""
    for key, value in chosen.items():
        for task, one in value.items() if isinstance(value, Mapping) else [("", value)]:
            yield task, f"{key}={one}"


def _values_text(values: Sequence[Any]) -> str:
    """`0.1, 0.01`, or `0 to 12` for consecutive integers."""
    whole = all(isinstance(value, int) for value in values)
    if whole and len(values) > 2 and list(values) == list(range(values[0], values[0] + len(values))):
        return f"{values[0]} to {values[-1]}"
    return ", ".join(map(str, values))


def verdict(results: Mapping[str, Any]) -> str:
    """One sentence: the main metric of the first task, its interval, and whether that is above chance."""
    task, metric = results["tasks"][0]["name"], MAIN[results["tasks"][0]["kind"]][0]
    value, by_chance = results["pooled"][task][metric], results["chance"][task][metric]
    if value is None:
        return f"{METRICS[metric]} of {task} is not defined: too few test utterances have a label."
    unit = " %" if metric in _PERCENT else ""
    score_text, chance_text = f"{number(metric, value)}{unit}", f"{number(metric, by_chance)}{unit}"
    low, high = results["ci95"][task][metric]
    if low is None:
        return f"{METRICS[metric]} of {task}: {score_text}, without an interval; chance is {chance_text}."
    where = "above" if low > by_chance else "below" if high < by_chance else "not distinguishable from"
    interval = interval_text(results, task, metric)
    return f"{METRICS[metric]} of {task}: {score_text} (95 % interval {interval}), {where} chance ({chance_text})."


def number(metric: str, value: float | None) -> str:
    """A value as the tables show it: 0.7123 -> `71.2` for a fraction, `0.712` for CCC and RMSE, None -> `–`."""
    if value is None:
        return "–"
    return f"{100 * value:.1f}" if metric in _PERCENT else f"{value:.3f}"


def signed(metric: str, value: float | None) -> str:
    """A difference as the tables show it: `+1.2` points for UAR, `-0.012` for CCC."""
    text = number(metric, value)
    return text if value is None or value < 0 else f"+{text}"


def ends_text(
    metric: str, ends: Sequence[float | None] | None, show: Callable[[str, float | None], str] = number
) -> str:
    """`65.0 – 77.1`, or with `signed` `-1.2 – +3.4`; "" where there is no interval, which has None for its ends."""
    return "" if ends is None or ends[0] is None else " – ".join(show(metric, end) for end in ends)


def to_json(value: Any) -> Any:
    """The same value with NaN and infinities as None, NumPy numbers as Python's and tuples as lists."""
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [to_json(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _mean_and_std(parts: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """`mean` and `std` (n - 1) of each task's and metric's values over the parts that have one; NaN for too few."""
    mean: dict[str, dict[str, float]] = {}
    std: dict[str, dict[str, float]] = {}
    for task, metrics in parts[0]["metrics"].items():
        mean[task], std[task] = {}, {}
        for metric in (metric for metric in METRICS if metric in metrics):
            values = [part["metrics"][task][metric] for part in parts]
            defined = [value for value in values if not math.isnan(value)]
            mean[task][metric] = float(np.mean(defined)) if defined else math.nan
            std[task][metric] = float(np.std(defined, ddof=1)) if len(defined) > 1 else math.nan
    return {"mean": mean, "std": std}


def _comparable(
    folds: Sequence[Mapping[str, Any]], per_fold: Sequence[tuple[str, Predictions]], pooled: Predictions
) -> list[dict[str, Any]]:
    """The folds' metrics, NaN where a metric means something else in a fold than over all test utterances."""
    dropped: dict[str, tuple[str, ...]] = {}
    for task in pooled.tasks:
        if task.kind == "regression":
            dropped[task.name] = ("ccc",) if len(folds) > 1 else ()
            continue
        whole = set(pooled.targets[task.name].tolist()) - {-1}
        parts = [set(predictions.targets[task.name].tolist()) - {-1} for _, predictions in per_fold]
        dropped[task.name] = ("uar", "macro_f1") if any(part and part != whole for part in parts) else ()

    def without_dropped(task: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
        return {metric: math.nan if metric in dropped[task] else value for metric, value in metrics.items()}

    return [{"metrics": {task: without_dropped(task, of) for task, of in fold["metrics"].items()}} for fold in folds]


def chance(predictions: Predictions, task: Task) -> dict[str, float]:
    """What guessing scores: UAR of a constant prediction and WA of the most frequent class, or CCC 0."""
    if task.kind == "regression":
        return {"ccc": 0.0}
    target = predictions.targets[task.name]
    known = target[target >= 0]
    majority = np.bincount(known).max() / len(known) if len(known) else math.nan
    return {"uar": 1 / (len(np.unique(known)) or len(task.labels)), "wa": float(majority)}


def _confusion(predictions: Predictions, task: Task) -> np.ndarray:
    rows = predictions.known(task)
    return confusion_matrix(predictions.targets[task.name][rows], predictions.predicted(task)[rows], len(task.labels))
