"""The pictures of a report, each with a title and a caption; what needs a legend brings one."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

import numpy as np

from undertone.experiments.attention import CLIPS, load_attention
from undertone.experiments.embeddings import MOST, embedding_map, load_embeddings
from undertone.experiments.run_folder import RunFolder
from undertone.report import plots
from undertone.scoring.metrics import calibration_bins, risk_area, risk_coverage
from undertone.scoring.results import METRICS, number

MAIN = {"classification": ("uar", "wa", "macro_f1"), "regression": ("ccc", "rmse")}
"""The metrics of a task that a page shows, the first one first."""


def figures(files: RunFolder) -> list[dict[str, Any]]:
    """Title, SVG and caption of each picture; one that the run has nothing for is left out."""
    return [
        *_layer_figures(files),
        *_calibration_figures(files),
        *_selective_figures(files),
        *_training_figures(files),
    ]


def embedding_maps(files: RunFolder) -> dict[str, Any] | None:
    """One layout of one fold's embeddings, coloured by the first task, by speaker and by gender where these vary.

    Returns:
        `caption`, and `maps`: title, svg and legend [(colour number, marker number, text)] of each; None without
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
        f"The embeddings of {shown} test utterances of fold {fold}, laid out by t-SNE: neighbours are alike, "
        f"larger distances mean little. Every fold's model has a space of its own, so one fold is shown."
    )
    return {"caption": caption, "maps": [found for found in maps if found is not None]}


def attention_clips(files: RunFolder) -> dict[str, Any] | None:
    """The attention in a few test clips of one fold.

    Returns:
        `caption`, and `clips`: title and svg of each; None where the head has no attention.
    """
    kept = {name: clips for name in files.fold_names if (clips := load_attention(files.fold(name)))}
    fold = max(kept, key=files.predictions.folds.count, default=None)
    if fold is None:
        return None
    caption = (
        f"How much each moment counts in the head's pooling (line; 1, dashed, is as much as every other), over the "
        f"level of the sound (grey). Test clips of fold {fold}, up to {CLIPS} of each class of {files.tasks[0].name}, "
        f"drawn at random. A large weight says what the pooled vector is made of, not why the answer was given."
    )
    clips = [
        {
            "title": f"{clip.group}, predicted {clip.predicted}",
            "id": clip.id,
            "svg": plots.attention(clip.weights, clip.level, clip.duration, f"attention{number}"),
        }
        for number, clip in enumerate(kept[fold])
    ]
    return {"caption": caption, "clips": clips}


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
    """None where there is nothing to tell apart, or more than colours and markers can."""
    names = sorted({value for value in values if value is not None})
    if not 2 <= len(names) <= plots.NUM_COLOURS * len(plots.MARKERS):
        return None
    categories = np.array([-1 if value is None else names.index(value) for value in values])
    legend = [(number % plots.NUM_COLOURS, number // plots.NUM_COLOURS, name) for number, name in enumerate(names)]
    return {"title": title, "svg": plots.scatter(points, categories, f"map{place}"), "legend": legend}


def _layer_figures(files: RunFolder) -> list[dict[str, Any]]:
    """The dev score of each layer where layers were tried, else the weights where they were learned."""
    results = files.results
    if "layers" in results.get("sweep", {}).get("values", {}):
        return _layer_score_figures(results)
    weights = [fold["layer_weights"] for fold in results["folds"] if fold.get("layer_weights")]
    if not weights or len(weights[0]) < 2 or isinstance(results.get("layers"), int):
        return []
    text = "Weight of each layer: bars are means over folds, dots single folds, the dashed line equal weights."
    return [{"title": "Layer weights", "svg": plots.layer_weights(np.array(weights)), "text": text}]


def _layer_score_figures(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of each fold and layer the best dev score that the other values of the sweep give, a mean over seeds."""
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
        "What a head on each layer alone reaches on dev, where the layer is chosen: the line is the mean over folds, "
        "dots are single folds. Test was read with the chosen layers alone."
    )
    text += " The dashed line is the weighted sum of all layers." if whole else ""
    text += f" Of {', '.join(others)} the best value of each layer and fold is shown." if others else ""
    svg = plots.layer_scores(
        layers, np.array([scores[layer] for layer in layers]).T, None if whole is None else fmean(whole)
    )
    return [{"title": "Dev score of each layer", "svg": svg, "text": text}]


def _calibration_figures(files: RunFolder) -> list[dict[str, Any]]:
    task = files.tasks[0]
    rows = files.predictions.known(task)
    if task.kind != "classification" or not rows.any():
        return []
    bins = calibration_bins(files.predictions.targets[task.name][rows], files.predictions.scores[task.name][rows])
    ece = number("ece", files.results["pooled"][task.name]["ece"])
    text = f"How often {task.name} is right at each confidence; on the dashed line, as often as it says. ECE {ece} %."
    return [{"title": "Calibration", "svg": plots.reliability(*bins), "text": text}]


def _selective_figures(files: RunFolder) -> list[dict[str, Any]]:
    task = files.tasks[0]
    rows = files.predictions.known(task)
    if task.kind != "classification" or not rows.any():
        return []
    coverage, risk = risk_coverage(
        files.predictions.targets[task.name][rows], files.predictions.scores[task.name][rows]
    )
    text = (
        f"How often {task.name} is wrong when only the surest answers are given; on the dashed line all are. "
        f"Area under the curve {100 * risk_area(coverage, risk):.1f} %."
    )
    return [{"title": "Risk and coverage", "svg": plots.risk_coverage(coverage, risk), "text": text}]


def _training_figures(files: RunFolder) -> list[dict[str, Any]]:
    task = files.tasks[0]
    metric = MAIN[task.kind][0]
    scale, unit = (100, " (%)") if task.kind == "classification" else (1, "")
    marks = [fold.get("best_step") for fold in files.results["folds"]]
    dev = [
        [(item["step"], scale * item["dev"][task.name][metric]) for item in history if task.name in item.get("dev", {})]
        for history in files.histories
    ]
    loss = [
        [(item["step"], item["train_loss"]) for item in history if item["train_loss"] is not None]
        for history in files.histories
    ]
    found = []
    if any(dev):
        text = f"{METRICS[metric]} of {task.name} on dev; a line for each fold, a dot where its model was taken."
        svg = plots.curves(dev, marks, f"dev {METRICS[metric]}{unit}", "dev")
        found.append({"title": "Dev score", "svg": svg, "text": text})
    if any(loss):
        svg = plots.curves(loss, [None] * len(loss), "train loss", "loss")
        found.append({"title": "Training loss", "svg": svg, "text": "Mean loss on train, a line for each fold."})
    return found
