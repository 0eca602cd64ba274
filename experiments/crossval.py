"""Cross-validation: every fold trained and tested, pooled, then one model from all speakers."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from filelock import FileLock
from torch.nn.modules.batchnorm import _BatchNorm

from undertone.common.console import Display
from undertone.common.files import remove_folder, write_json
from undertone.corpora.corpus import Corpus
from undertone.corpora.fingerprint import split_fingerprint
from undertone.corpora.folds import Fold
from undertone.corpora.manifest import Manifest
from undertone.downstream.head import head_class
from undertone.downstream.model import UndertoneModel
from undertone.downstream.network import Downstream, LiveModel
from undertone.experiments.cost import model_cost, trained_parameters
from undertone.experiments.fitted_heads import chooses_inside
from undertone.experiments.folds_at_once import train_at_once
from undertone.experiments.open_run import open_run
from undertone.experiments.run import Run, weights_of
from undertone.experiments.run_fold import fit, train_fold
from undertone.experiments.run_folder import RunFolder
from undertone.experiments.stacked_folds import can_stack, refit_stacked, train_stacked
from undertone.experiments.start_record import versions
from undertone.experiments.sweep import refit_plan, sweep_info
from undertone.scoring.by_corpus import per_corpus
from undertone.scoring.calibration import combined, report
from undertone.scoring.predictions import Predictions
from undertone.scoring.results import only_fold, summarise, to_json
from undertone.training.accelerator import accelerator_of, first_decides
from undertone.training.config import RunConfig, trials
from undertone.training.settings import public_command
from undertone.training.targets import label_warnings
from undertone.training.trainer import total_steps

TRAINING_KEYS = ("max_epochs", "learning_rate", "batch_size", "seed", "mixed_precision")  # settings that results repeat


def crossval(config: RunConfig, out: str | Path, display: Display | None = None) -> dict[str, Any] | None:
    """Train and test every fold not yet done, then pool the results and train RUN/model on all speakers.

    Several processes may work on one `out`: each takes a fold that no other works on; the last to end pools. A killed
    run is resumed. `results.json`, `predictions.parquet`, `config.json`, `folds/NAME` and `model` are written there.

    Returns:
        The content of results.json; None when another process is still busy with a fold and will finish the run.
    """
    display = display or Display()
    run = open_run(config, out, display)
    accelerator = accelerator_of(run.config)
    if open_folds := train_folds(run, run.folds, accelerator):
        display.say(f"Another process is busy with {', '.join(open_folds)} and will write the results.")
        return None
    path = run.folder.path
    lock = FileLock(path / "finish.lock")

    def finished() -> dict[str, Any] | None:
        """The results of a run that has its model of all speakers; those of `train` on one fold are not."""
        lock.acquire()
        if not (path / "results.json").is_file() or not (path / "model").is_dir():
            return None
        results = RunFolder(path).results
        return results if only_fold(results) is None else None

    try:
        results = first_decides(accelerator, finished)
        if results is None:
            results = pool(run, run.folds, _refit(run, accelerator))
            if accelerator.is_main_process:
                write_results(run, run.folds, results)
        if accelerator.is_main_process:
            remove_folder(path / "refit")  # its checkpoints are no longer needed
        accelerator.wait_for_everyone()
        return results
    finally:
        lock.release()


def train(
    config: RunConfig, out: str | Path, fold_name: str | None = None, display: Display | None = None
) -> dict[str, Any]:
    """Train and test one fold, the first where none is named; its model, with the best dev score, is RUN/model.

    A ValueError says that there is no such fold, or that another process is training it.
    """
    run = open_run(config, out, display or Display())
    by_name = {fold.name: fold for fold in run.folds}
    if fold_name is not None and fold_name not in by_name:
        raise ValueError(f"No fold {fold_name!r}; the folds are: {', '.join(by_name)}.")
    fold = run.folds[0] if fold_name is None else by_name[fold_name]
    accelerator, path = accelerator_of(run.config), run.folder.path
    if train_folds(run, [fold], accelerator):
        raise ValueError(f"Another process trains fold {fold.name} in {path}. Wait, or choose another --out.")
    trained = run.folder.fold(fold.name) / "model"
    model = UndertoneModel.from_pretrained(trained, allow=config.code())
    weights = run.folder.fold_record(fold.name, trained_parameters=int)["trained_parameters"]
    results = pool(run, [fold], {**model_cost(model), "trained_parameters": weights})
    if accelerator.is_main_process:
        (model.config.calibration,) = _calibrations(run, [fold])
        model.config.speech_only = run.training(fold, trials(run.config)[0]).is_speech()
        model.save_pretrained(path / "model")
        if config.trained == "lora":
            shutil.copytree(trained, path / "adapter", dirs_exist_ok=True)
        write_results(run, [fold], results)
    accelerator.wait_for_everyone()
    return results


def train_folds(run: Run, folds: Sequence[Fold], accelerator: Accelerator) -> list[str]:
    """Train the folds that are not done; returns those that another process is still busy with."""
    if can_stack(run, run.config, accelerator):
        train_stacked(run, folds)
    elif not train_at_once(run, folds, accelerator):
        for number, fold in enumerate(folds, 1):
            train_fold(run, fold, f"fold {fold.name}" + (f" ({number}/{len(folds)})" if len(folds) > 1 else ""))
    return first_decides(accelerator, lambda: [fold.name for fold in folds if not run.folder.is_done(fold.name)])


def _refit(run: Run, accelerator: Accelerator) -> dict[str, Any]:
    """Train RUN/model on all speakers, for the median best step of the folds; returns what using it costs."""
    records = [run.folder.fold_record(fold.name, best_step=int) for fold in run.folds]
    config, best_step, num_train = refit_plan(run.config, records)
    training, total = run.training_of_everyone(config), total_steps(config, num_train)
    if can_stack(run, config, accelerator):
        module: Downstream | LiveModel = refit_stacked(training, total, best_step)
    else:
        module, _ = fit(training, accelerator, training.folder, training.train, [], total, best_step)
    calibration = combined(_calibrations(run, run.folds))
    model, path = training.model(module, training.train, calibration, training.is_speech()), run.folder.path
    if accelerator.is_main_process:
        model.save_pretrained(path / "model")
        if config.trained == "lora":  # also with the adapters apart, for a push without the upstream
            training.save(module, training.train, path / "adapter")
    accelerator.wait_for_everyone()
    return {**model_cost(model), "trained_parameters": trained_parameters(module), "refit_steps": best_step}


def _calibrations(run: Run, folds: Sequence[Fold]) -> list[dict[str, dict[str, Any]]]:
    """What dev said about the confidence of each fold's tasks; nothing of a fold that an earlier version trained."""
    return [run.folder.fold_record(fold.name).get("calibration", {}) for fold in folds]


def pool(run: Run, folds: Sequence[Fold], cost: dict[str, Any]) -> dict[str, Any]:
    """The content of results.json from the folds' predictions."""
    per_fold = [(fold.name, run.folder.fold_predictions(fold.name)) for fold in folds]
    records = [run.folder.fold_record(fold.name, seconds=(int, float)) for fold in folds]
    info = {
        **corpus_info(run.corpus, run.manifest, folds),
        "upstream": run.config.upstream,
        "upstream_weights": weights_of(run.upstream),
        "upstream_fingerprint": run.upstream.fingerprint(),
        "hidden_states": run.stored,
        "layers": "best" if "layers" in run.config.sweep else run.config.layers,
        "num_layers": min(part.num_layers for part in run.upstream.streams.values()),
        "head": run.config.head,
        "protocol": run.corpus.protocol_used(run.manifest, run.config.protocol, run.config.num_folds),
        "speaker_independent": all(fold.speaker_independent for fold in folds),
        "dev_shares_speakers": any(fold.dev_shares_speakers for fold in folds),
        **sweep_info(run.config, {fold.name: run.folder.fold(fold.name) for fold in folds}),
        "selected_by": _selected_by(run, records),
        "warnings": [*run.warnings, *_split_batch_norms(run, records), *_fewer_bits(run.config.mixed_precision)],
        "label_warnings": label_warnings(run.tasks, folds, run.manifest, inner=chooses_inside(run.config)),
        "cost": cost,
        "training": {
            "mode": run.config.trained,
            **{key: getattr(run.config, key) for key in TRAINING_KEYS},
            "command": public_command(run.config),
        },
        "data": {
            "language": run.corpus.language,
            "hours": round(sum(item.duration for item in run.manifest) / 3600, 4),
        },
        "versions": versions(),
    }
    pooled = Predictions.concat([predictions for _, predictions in per_fold])
    by_corpus = per_corpus(pooled, run.manifest.speaker_index.corpus)
    results = summarise(per_fold, info | {"per_corpus": by_corpus})
    for entry, record in zip(results["folds"], records, strict=True):
        entry |= record
    calibrations = _calibrations(run, folds)
    found = report([(part, own) for (_, part), own in zip(per_fold, calibrations, strict=True)], per_fold[0][1].tasks)
    joint = combined(calibrations)
    results["calibration"] = to_json({task: one | joint[task] for task, one in found.items()})
    results["cost"]["training_seconds"] = round(sum(entry["seconds"] for entry in results["folds"]), 2)
    return results


def _fewer_bits(precision: str) -> list[str]:
    """A sentence where the run did not compute in float32."""
    if precision == "no":
        return []
    return [
        f"The scores are of mixed_precision={precision}. Published ones should be of float32, in which the saved model "
        f"predicts too, unless it is told otherwise."
    ]


def corpus_info(corpus: Corpus, manifest: Manifest, folds: Sequence[Fold]) -> dict[str, Any]:
    """What results say of the corpus and of its folds."""
    return {
        "corpus": corpus.name,
        "corpus_variant": corpus.variant,
        "num_utterances": len(manifest),
        "num_speakers": len(set(manifest.speaker_names.values()) - {None}),
        "manifest_hash": manifest.hash,
        "split_fingerprint": split_fingerprint(folds, manifest),
        "licence": corpus.licence,
        "citation": corpus.citation,
    }


def _selected_by(run: Run, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How models were selected: `metrics` {task: {metric: folds}}, `per_task` or by the mean, `on` which part."""
    metrics: dict[str, Counter[str]] = {}
    for record in records:
        for task, metric in record["selected_by"].items():
            metrics.setdefault(task, Counter())[metric] += 1
    on = sorted({record["chosen_by"] for record in records})
    return {"metrics": metrics, "per_task": head_class(run.config.head).is_fitted, "on": "; ".join(on)}


def _split_batch_norms(run: Run, records: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence where batch norms normalised parts of a batch: nothing else depends on how a batch is split."""
    parts = sorted({record["batch_parts"] for record in records} - {1})
    norms = [part for part in run.new_downstream("count").modules() if isinstance(part, _BatchNorm)]
    if not parts or not norms:
        return []
    return [
        f"head {run.config.head} has batch norms, which normalised by parts of a batch of {run.config.batch_size} "
        f"({' or '.join(map(str, parts))} parts, by micro-batches and processes): scores are not those of whole batches"
    ]


def write_results(run: Run, folds: Sequence[Fold], results: dict[str, Any]) -> None:
    """Write predictions.parquet, then results.json: with it a run is complete."""
    per_fold = [run.folder.fold_predictions(fold.name) for fold in folds]
    Predictions.concat(per_fold).save(run.folder.path / "predictions.parquet")
    write_json(run.folder.path / "results.json", results)
