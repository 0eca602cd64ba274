"""The figures of a report, each with a title and a caption."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

import numpy as np

from undertone.downstream.task import Task
from undertone.experiments.attention import CLIPS, load_attention
from undertone.experiments.embeddings import MOST, embedding_map, load_embeddings
from undertone.experiments.run_folder import RunFolder
from undertone.scoring import plots
from undertone.scoring.metrics import calibration_bins, risk_area, risk_coverage
from undertone.scoring.results import MAIN, METRICS, number


def figures(files: RunFolder) -> list[dict[str, Any]]:
    """Title, SVG and caption of each figure that the run has data for."""
    return [*_value_figures(files), *_layer_figures(files), *_confidence_figures(files), *_training_figures(files)]


def embedding_maps(files: RunFolder) -> dict[str, Any] | None:
    """One layout of one fold's embeddings, coloured by the first task, by speaker and by gender where these vary.

    Returns `caption`, and `maps`: title, svg and legend [(colour number, marker number, text)] of each; None without
    embeddings, or where too few of them differ.
    """
    fold = files.embedded_fold()
    if fold is None:
        return None
    ids, embeddings = load_embeddings(files.fold(fold))
    whole, drawn = len(ids), np.unique(np.linspace(0, len(ids) - 1, min(len(ids), MOST)).astype(int))
    ids, points = [ids[row] for row in drawn], embedding_map(embeddings[drawn])
    if points is None:
        return None
    colourings = _colourings(files, ids).items()
    maps = [_map(points, values, title, number) for number, (title, values) in enumerate(colourings)]
    shown = f"the {whole}" if len(ids) == whole else f"{len(ids)} of the {whole}"
    caption = (
        f"t-SNE of the embeddings of {shown} test utterances of fold {fold}. Neighbours are similar; large distances "
        f"mean little. One fold is shown, because each fold's model has its own embedding space."
    )
    return {"caption": caption, "maps": [found for found in maps if found is not None]}


def attention_clips(files: RunFolder) -> dict[str, Any] | None:
    """The attention in a few test clips of one fold: `caption`, and `clips` with title and svg; None without any."""
    kept = {name: clips for name in files.fold_names if (clips := load_attention(files.fold(name)))}
    fold = max(kept, key=files.predictions.folds.count, default=None)
    if fold is None:
        return None
    caption = (
        f"Line: the attention weight of each frame relative to equal weights (dashed line at 1). Grey: the level of "
        f"the audio. Test clips of fold {fold}, up to {CLIPS} per class of {files.tasks[0].name}, drawn at random. "
        f"The weights show what the pooled vector is made of, not why the model predicted a label."
    )
    shown = [
        {
            "title": f"{clip.group}, predicted {clip.predicted}",
            "id": clip.id,
            "svg": plots.attention(clip.weights, clip.level, clip.duration, f"attention{number}"),
        }
        for number, clip in enumerate(kept[fold])
    ]
    return {"caption": caption, "clips": shown}


def _colourings(files: RunFolder, ids: list[str]) -> dict[str, list[str | None]]:
    """Title -> a value for each of the ids."""
    predictions, task = files.predictions, files.tasks[0]
    place = {name: row for row, name in enumerate(predictions.ids)}
    rows = [place[name] for name in ids]
    found: dict[str, list[str | None]] = {}
    if task.kind == "classification":
        target = predictions.targets[task.name][rows]
        found[task.name] = [task.labels[label] if label >= 0 else None for label in target]
    found["speaker"] = [predictions.speakers[row] for row in rows]
    found["gender"] = [predictions.genders[row] for row in rows]
    return found


def _map(points: np.ndarray, values: list[str | None], title: str, place: int) -> dict[str, Any] | None:
    """None for a single category, or for more than colours and markers can show."""
    names = sorted({value for value in values if value is not None})
    if not 2 <= len(names) <= plots.NUM_COLOURS * len(plots.MARKERS):
        return None
    categories = np.array([-1 if value is None else names.index(value) for value in values])
    legend = [(number % plots.NUM_COLOURS, number // plots.NUM_COLOURS, name) for number, name in enumerate(names)]
    return {"title": title, "svg": plots.scatter(points, categories, f"map{place}"), "legend": legend}


def _value_figures(files: RunFolder) -> list[dict[str, Any]]:
    """True against predicted, of each task with values."""
    found = []
    for place, task in enumerate(task for task in files.tasks if task.kind == "regression"):
        rows = files.predictions.known(task)
        if not rows.any():
            continue
        target, predicted = files.predictions.targets[task.name][rows], files.predictions.predicted(task)[rows]
        shown = f"{plots.MOST_DOTS:,} of the " if len(target) > plots.MOST_DOTS else ""
        pooled = files.results["pooled"][task.name]
        text = (
            f"Predicted against true {task.name}, a dot for each of {shown or 'the '}{len(target):,} test values. On "
        )
        text += f"the dashed line both are equal. CCC {number('ccc', pooled['ccc'])}, "
        text += f"RMSE {number('rmse', pooled['rmse'])}."
        svg = plots.true_predicted(target, predicted, f"values{place}")
        found.append({"title": f"True and predicted {task.name}", "svg": svg, "text": text})
    return found


def _layer_figures(files: RunFolder) -> list[dict[str, Any]]:
    """The dev score of each layer if layers were swept, else the learned layer weights, if any."""
    results = files.results
    if "layers" in results.get("sweep", {}).get("values", {}):
        return _layer_score_figures(results)
    found = [fold["layer_weights"] for fold in results["folds"] if fold.get("layer_weights")]
    if not found or isinstance(results.get("layers"), int):
        return []
    several = isinstance(found[0], dict)
    by_stream = {f" of {name}": [one[name] for one in found] for name in found[0]} if several else {"": found}
    bars = "Bars are means over folds, dots single folds. " if len(found) > 1 else ""
    text = f"Weight of each layer in the weighted sum. {bars}The dashed line marks equal weights."
    return [
        {"title": f"Layer weights{stream}", "svg": plots.layer_weights(np.array(weights)), "text": text}
        for stream, weights in by_stream.items()
        if len(weights[0]) > 1
    ]


def _layer_score_figures(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each fold and layer the best dev score over the other swept values, each a mean over seeds."""
    others = [key for key in results["sweep"]["values"] if key != "layers" and key in results["folds"][0]["trials"][0]]
    scores: dict[Any, list[float]] = {layer: [] for layer in results["sweep"]["values"]["layers"]}
    for fold in results["folds"]:
        for layer, found in scores.items():
            by_values: dict[str, list[float]] = {}
            for trial in (trial for trial in fold["trials"] if trial["layers"] == layer):
                by_values.setdefault(str([trial[key] for key in others]), []).append(trial["dev_score"])
            found.append(max(map(fmean, by_values.values())))
    whole = scores.pop("sum", None)
    layers = sorted(scores)
    text = (
        "Dev score of a head on each single layer: the line is the mean over folds, dots are single folds. The layer "
        "is chosen on dev; test was scored with the chosen layers only."
    )
    text += " The dashed line is the weighted sum of all layers." if whole else ""
    text += f" Each dot has the best {' and '.join(others)} for its fold and layer." if others else ""
    svg = plots.layer_scores(
        layers, np.array([scores[layer] for layer in layers]).T, None if whole is None else fmean(whole)
    )
    return [{"title": "Dev score of each layer", "svg": svg, "text": text}]


def _confidence_figures(files: RunFolder) -> list[dict[str, Any]]:
    """Calibration, and the error rate against coverage, of the first task if it has classes."""
    task = files.tasks[0]
    rows = files.predictions.known(task)
    if task.kind != "classification" or not rows.any():
        return []
    target, scores = files.predictions.targets[task.name][rows], files.predictions.scores[task.name][rows]
    ece = number("ece", files.results["pooled"][task.name]["ece"])
    coverage, risk = risk_coverage(target, scores)
    return [
        {
            "title": "Calibration",
            "svg": plots.reliability(*calibration_bins(target, scores)),
            "text": f"Accuracy of {task.name} against the model's confidence. On the dashed line the model is "
            f"perfectly calibrated. ECE {ece} %.{_calibrated(files, task)}",
        },
        {
            "title": "Risk and coverage",
            "svg": plots.risk_coverage(coverage, risk),
            "text": f"Error rate of {task.name} when only the most confident predictions are kept. The dashed line is "
            f"the error rate of all predictions. Area under the curve {100 * risk_area(coverage, risk):.1f} %.",
        },
    ]


def _calibrated(files: RunFolder, task: Task) -> str:
    """What temperature and threshold, learned on dev, do on test."""
    found = files.results.get("calibration", {}).get(task.name)
    if not found:
        return ""
    sure = f" of which {number('wa', found['accuracy_sure'])} % are right" if found["accuracy_sure"] is not None else ""
    after, coverage, right = (
        number(*pair) for pair in (("ece", found["ece_after"]), ("wa", found["coverage"]), ("wa", found["accuracy"]))
    )
    return (
        f" With the temperature that fits dev (median {found['temperature']:.2f}): {after} %. Below a probability of "
        f"{found['unsure_below']:.2f} (median), chosen on dev, the model is unsure. On test it is sure of {coverage} "
        f"%{sure}; of all predictions {right} % are."
    )


def _training_figures(files: RunFolder) -> list[dict[str, Any]]:
    task = files.tasks[0]
    metric = MAIN[task.kind][0]
    scale, unit = (100, " (%)") if task.kind == "classification" else (1, "")
    marks, one = [fold.get("best_step") for fold in files.results["folds"]], len(files.histories) == 1
    lines = "" if one else "one line per fold; "
    dev = [
        [(item["step"], scale * item["dev"][task.name][metric]) for item in history if task.name in item.get("dev", {})]
        for history in files.histories
    ]
    loss = [
        [(item["step"], item["train_loss"]) for item in history if item["train_loss"] is not None]
        for history in files.histories
    ]
    found = []
    if any(len(points) > 1 for points in dev):  # a head that is fitted once has a single one
        text = f"{METRICS[metric]} of {task.name} on dev; {lines}the dot marks the step whose weights were kept."
        svg = plots.curves(dev, marks, f"dev {METRICS[metric]}{unit}", "dev")
        found.append({"title": "Dev score", "svg": svg, "text": text})
    if any(len(points) > 1 for points in loss):
        svg = plots.curves(loss, [None] * len(loss), "train loss", "loss")
        text = "Mean loss on train." if one else "Mean loss on train, one line per fold."
        found.append({"title": "Training loss", "svg": svg, "text": text})
    return found
