"""What `undertone bench` concludes from what it measured: the time of whole runs, the settings for them, tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from undertone.corpora.folds import Fold
from undertone.corpora.manifest import Manifest
from undertone.training.config import RunConfig, trials
from undertone.training.settings import command_line
from undertone.training.trainer import total_steps
from undertone.upstream.store.manage import in_words
from undertone.upstream.store.shard import DTYPES
from undertone.upstream.store.store import Kind

PREFERRED = ("lora", "attention", "linear")  # the best scores first; full fine-tuning costs more for about LoRA's
LARGEST = 128  # utterances of the largest batch that is tried
NIGHT = 8 * 3600.0  # s that a recommended run may take
WORTH_IT = 1.1  # times as fast as float32: below, fewer bits are not recommended


def estimate_all(
    config: RunConfig,
    manifest: Manifest,
    folds: Sequence[Fold],
    rows: Sequence[Mapping[str, Any]],
    extraction: Mapping[Kind, Mapping[str, Any]],
    parallel: int,
) -> list[dict[str, Any]]:
    """The rows of measured trainings, each with an estimate of `undertone crossval` on the whole corpus.

    Added are `updates` of a training, `extraction_s`, `trainings_s` (every fold, value of a sweep and seed, and the
    model of all speakers) and `total_s`. Trainings are counted to their last update, where `patience` may end them
    sooner. Reading and checking the files, which is done once, is not in it, nor the results.

    Args:
        config: the settings of the run.
        manifest: the corpus.
        folds: of it.
        rows: what was measured of each training, with the kind that it reads from the store as `stored`, or None, and
            whether its heads train side by side as `stacked`.
        extraction: {kind: its row in the precision that the run uses}.
        parallel: stacks of linear heads that train at once; 0: one stack holds all folds.
    """
    seconds = {item.audio_hash: item.duration for item in manifest}
    audio_s = sum(seconds.values())
    durations = {item.id: item.duration for item in manifest}
    found = []
    for row in rows:
        if row["stacked"]:
            trainings = _stacked(config, folds, row, parallel)
        else:
            trainings = _by_gradients(config, folds, row, durations)
        passed = extraction[row["stored"]] if row["stored"] else None
        first = audio_s / passed["audio_s_per_s"] + passed["setup_s"] if passed else 0.0
        updates = max(total_steps(config, len(fold.train)) for fold in folds)
        found.append({**row, "updates": updates, "extraction_s": first, "trainings_s": trainings})
        found[-1]["total_s"] = first + trainings
    return found


def _stacked(config: RunConfig, folds: Sequence[Fold], row: Mapping[str, Any], parallel: int) -> float:
    """Seconds of linear heads side by side, and of the model of all speakers.

    A stack is a fold and seed; `parallel` of them train at once, and the last ones, fewer, are divided. With 0 one
    stack holds all folds.
    """
    updates = max(total_steps(config, len(fold.train)) for fold in folds)
    seeds = max(1, len(config.seeds))
    turns = float(seeds)
    if parallel:
        whole, rest = divmod(len(folds) * seeds, parallel)
        size = row["trainings_at_once"]
        turns = whole + min(1.0, rest * -(-size // parallel) / size)
    return updates * (turns * float(row["update_s"]) + float(row["alone_update_s"]))


def _by_gradients(
    config: RunConfig, folds: Sequence[Fold], row: Mapping[str, Any], durations: Mapping[str, float]
) -> float:
    """Seconds of the folds, `folds_at_once` side by side, with checkpoints, dev and test predicted.

    The model of all speakers, which is trained on all threads, counts as an update was measured.
    """

    def predicting(ids: Sequence[str]) -> float:
        return float(row["predict_s_per_audio_s"]) * sum(durations[name] for name in ids)

    busy, steps = [0.0] * row["folds_at_once"], []  # until when each process is
    for fold in folds:
        steps.append(total_steps(config, len(fold.train)))
        every = config.eval_every or -(-len(fold.train) // config.batch_size)
        evaluations = -(-steps[-1] // every)
        seconds = steps[-1] * row["update_s"] + evaluations * (row["checkpoint_s"] + predicting(fold.dev))
        seconds += predicting(fold.dev) + predicting(fold.test)
        first = min(range(len(busy)), key=busy.__getitem__)
        busy[first] += len(trials(config)) * seconds
    return max(busy) + max(steps) * float(row["update_s"])


def recommend(
    config: RunConfig, found: Mapping[str, Any], free: int, trainings: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """A run to start with: `training`, `seconds`, `command`, and `why` in a sentence.

    It is the first of `PREFERRED` that ends within a night, else the quickest; a batch that the memory does not hold is
    accumulated, frames that the disk does not hold are stored as int8. Where no precision was asked for, the pass of a
    frozen upstream computes in the fastest one.

    Args:
        config: the settings that were measured.
        found: what `bench` found.
        free: bytes on the disk of the store.
        trainings: {name: the settings that make it}.
    """
    rows = {row["training"]: row for row in found["trainings"]}
    fitting = [
        name
        for name in PREFERRED
        if name in rows and rows[name]["total_s"] <= NIGHT and _fits(rows[name], free, config.store_dtype)
    ]
    name = fitting[0] if fitting else min(rows, key=lambda one: rows[one]["total_s"])
    row, settings = rows[name], {**config.model_dump(mode="json"), **trainings[name]}
    why = [f"{name} is the first of {', '.join(PREFERRED)} that ends within {in_time(NIGHT)}"]
    if not fitting:
        why = [f"{name} is the quickest; none of {', '.join(PREFERRED)} ends within {in_time(NIGHT)}"]
    seconds = row["total_s"]
    if row["stored"] and config.mixed_precision == "no":
        exact, *others = (one for one in found["extraction"] if one["kind"] == row["stored"])
        best = max([exact, *others], key=lambda one: one["audio_s_per_s"])
        gain = best["audio_s_per_s"] / exact["audio_s_per_s"]
        if gain >= WORTH_IT:
            settings["mixed_precision"] = best["precision"]
            seconds -= row["extraction_s"] * (1 - 1 / gain)
            why.append(f"{best['precision']} is {gain:.1f} times as fast as float32, which is for published figures")
    if row["store_bytes"] > free // 2 and config.store_dtype != "int8":
        settings["store_dtype"] = "int8"
        why.append(f"frames would take {in_words(row['store_bytes'])}, more than half of the free disk")
    largest = row["largest_batch"]
    if largest is not None and largest < config.batch_size:
        if largest == 0:
            settings["gradient_checkpointing"] = True
        settings["accumulation"] = min(config.batch_size, -(-config.batch_size // max(1, largest)))
        why.append(f"the memory holds about {largest} of the longest clips at once, a batch has {config.batch_size}")
    out = Path("runs") / f"{Path(config.corpus).stem}-{Path(config.upstream).name}-{name}"
    return {"training": name, "seconds": seconds, "command": command_line(settings, out), "why": "; ".join(why) + "."}


def _fits(row: Mapping[str, Any], free: int, dtype: str) -> bool:
    """Whether the frames can be stored, at the least as int8; their bytes are those of `dtype`."""
    return row["stored"] != "frames" or row["store_bytes"] / DTYPES[dtype].itemsize <= free // 2


# ---- Tables for the terminal.

TableOf = tuple[list[str], list[str], list[list[str]]]  # title lines, header, rows


def extraction_table(found: Mapping[str, Any]) -> TableOf:
    """A row for each precision: the speed, and what the corpus takes."""
    corpus, machine = found["corpus"], found["machine"]
    where = (
        machine["device"]
        if machine["device"] != "cpu"
        else f"{machine['processor']}, {machine['threads']} thread{'s' * (machine['threads'] > 1)}"
    )
    title = (
        f"{found['upstream']['name']} on {where}; {corpus['name']}: {corpus['clips']} clips, {corpus['audio_s']:.0f} s"
    )
    rows = []
    for row in found["extraction"]:
        whole = corpus["audio_s"] / row["audio_s_per_s"] + row["setup_s"]
        speed = f"{row['audio_s_per_s']:.1f} audio s/s"
        rows.append(
            [
                f"{row['precision']}, {row['kind']}",
                speed,
                f"{row['clips']} clips, {row['seconds']:.1f} s",
                in_time(whole),
            ]
        )
    return [title], ["Extraction", "Speed", "Measured on", "The corpus (estimate)"], rows


def training_table(found: Mapping[str, Any]) -> TableOf:
    """A row for each training: an update, the largest batch, and the estimate of the whole cross-validation."""
    rows = []
    for row in found["trainings"]:
        about = "" if row["measured_clips"] >= row["batch_size"] else "~ "
        largest = "any" if row["largest_batch"] is None else f"{row['largest_batch']}"
        cells = [row["training"], f"{about}{row['update_s']:.3g} s", largest + "+" * (row["largest_batch"] == LARGEST)]
        cells.append(in_words(row["store_bytes"]) if row["store_bytes"] else "–")
        cells.append(in_time(row["extraction_s"]) if row["extraction_s"] else "–")
        rows.append([*cells, in_time(row["trainings_s"]), in_time(row["total_s"])])
    size = found["trainings"][0]["batch_size"]
    titles = [
        f"Estimates for {found['corpus']['folds']} folds, to the last update (patience may end them sooner), and the "
        f"model of all speakers.",
        f"An update is of {size} clips, ~ scaled from fewer; the largest batch is of the longest clips.",
    ]
    return titles, ["Training", "Update", "Batch", "Store", "Extraction", "Trainings", "In all"], rows


def in_time(seconds: float) -> str:
    """Two digits or so: `8 s`, `12 min`, `3.4 h`, `5.1 days`."""
    for unit, size, most in (("s", 1.0, 100.0), ("min", 60.0, 100.0), ("h", 3600.0, 48.0)):
        if (value := seconds / size) < most:
            return f"{value:.0f} {unit}" if value >= 10 or unit == "s" and value >= 1 else f"{value:.1f} {unit}"
    return f"{seconds / 86400:.1f} days"


def as_json(found: Mapping[str, Any]) -> dict[str, Any]:
    """The measurement as JSON keeps it: numbers of four digits."""
    return dict(json.loads(json.dumps(found), parse_float=lambda text: float(f"{float(text):.4g}")))
