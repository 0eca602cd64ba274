"""Cross-validation: every fold trained and tested, pooled, then one model from all speakers."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from filelock import FileLock
from torch.nn.modules.batchnorm import _BatchNorm

from undertone.common.console import Display
from undertone.common.discovery import check_options
from undertone.common.files import read_record, remove_folder, write_json
from undertone.corpora.folds import Fold
from undertone.downstream.fitted_head import FittedHead
from undertone.downstream.head import head_class
from undertone.downstream.model import UndertoneModel
from undertone.downstream.network import Downstream, LiveModel
from undertone.experiments.cost import model_cost, trained_parameters
from undertone.experiments.hidden_states import first_decides
from undertone.experiments.open_run import open_run
from undertone.experiments.run import Run, weights_of
from undertone.experiments.run_fold import check_fitted, fit_fold, is_done, take_fold
from undertone.experiments.stacked_folds import can_stack, refit_stacked, train_stacked
from undertone.experiments.start_record import versions
from undertone.experiments.sweep import refit_plan, sweep_info
from undertone.scoring.predictions import Predictions
from undertone.scoring.results import only_fold, summarise
from undertone.training.accelerator import make_accelerator
from undertone.training.config import RunConfig, trials
from undertone.training.sources import EVERYONE
from undertone.training.targets import label_warnings
from undertone.training.trainer import total_steps


def crossval(config: RunConfig, out: Path, display: Display | None = None) -> dict[str, Any] | None:
    """Train and test every fold not yet done, then pool the results and train RUN/model on all speakers.

    Several processes may work on one `out`: each takes a fold that nobody has taken; the one that ends last pools.
    A killed run is taken up where it stood.

    Args:
        config: the settings.
        out: RUN; `results.json`, `predictions.parquet`, `config.json`, `folds/NAME` and `model` are written there.
        display: where progress is shown.

    Returns:
        The content of results.json; None when another process is still busy with a fold and will finish the run.
    """
    display = display or Display()
    run = _open(config, out, display)
    accelerator = make_accelerator(run.config)
    if can_stack(run, accelerator):
        train_stacked(run, run.folds)
    else:
        for number, fold in enumerate(run.folds, 1):
            take_fold(run, fold, f"fold {fold.name} ({number}/{len(run.folds)})")
    open_folds = first_decides(accelerator, lambda: [fold.name for fold in run.folds if not is_done(run, fold)])
    if open_folds:
        display.say(f"Another process is busy with {', '.join(open_folds)} and will write the results.")
        return None
    lock = FileLock(run.out / "finish.lock")

    def finished() -> dict[str, Any] | None:
        lock.acquire()
        return _finished(run)

    try:
        results = first_decides(accelerator, finished)
        if results is None:
            results = pool(run, run.folds, _refit(run, accelerator))
            if accelerator.is_main_process:
                write_results(run, run.folds, results)
        if accelerator.is_main_process:
            remove_folder(run.out / "refit")  # now that nothing needs its checkpoints any more
        accelerator.wait_for_everyone()
        return results
    finally:
        lock.release()


def train(config: RunConfig, out: Path, fold_name: str | None = None, display: Display | None = None) -> dict[str, Any]:
    """Train and test one fold; its model, with the best dev score, is RUN/model.

    Args:
        config: the settings.
        out: RUN.
        fold_name: which fold; None: the first (the only one of the protocol `split`).
        display: where progress is shown.

    Raises:
        ValueError: no fold of that name, or another process is training it.
    """
    display = display or Display()
    run = _open(config, out, display)
    names = [fold.name for fold in run.folds]
    if fold_name is not None and fold_name not in names:
        raise ValueError(f"No fold {fold_name!r}; the folds are: {', '.join(names)}.")
    fold = run.folds[names.index(fold_name) if fold_name is not None else 0]
    accelerator = make_accelerator(run.config)
    if can_stack(run, accelerator):
        train_stacked(run, [fold])
    else:
        take_fold(run, fold, f"fold {fold.name}")
    if not is_done(run, fold):
        raise ValueError(f"Another process trains fold {fold.name} in {run.out}. Wait, or choose another --out.")
    model = UndertoneModel.from_pretrained(run.folder(fold) / "model", allow=(config.head, config.upstream))
    learned = read_record(run.folder(fold) / "fold.json", trained_parameters=int)["trained_parameters"]
    results = pool(run, [fold], {**model_cost(model), "trained_parameters": learned})
    if accelerator.is_main_process:
        model.save_pretrained(run.out / "model")
        if config.mode == "lora":
            shutil.copytree(run.folder(fold) / "model", run.out / "adapter", dirs_exist_ok=True)
        write_results(run, [fold], results)
    accelerator.wait_for_everyone()
    return results


def _open(config: RunConfig, out: Path, display: Display) -> Run:
    """Open the run, once every training of a sweep is known to have options that its head takes."""
    for trial in trials(config):
        check_options("Head", trial.config.head, head_class(trial.config.head), trial.config.head_options)
        check_fitted(trial.config)
    return open_run(config, out, display)


def _finished(run: Run) -> dict[str, Any] | None:
    """The results of a run that has its model of all speakers; those of `train` on one fold are not."""
    if not (run.out / "results.json").is_file() or not (run.out / "model").is_dir():
        return None
    results = read_record(run.out / "results.json", folds=list, pooled=dict)
    return results if only_fold(results) is None else None


def _refit(run: Run, accelerator: Accelerator) -> dict[str, Any]:
    """Train RUN/model on all speakers, for the median best step of the folds; returns what using it costs."""
    records = [read_record(run.folder(fold) / "fold.json", best_step=int) for fold in run.folds]
    config, best_step, num_train = refit_plan(run.config, records)
    run, total = replace(run, config=config).of(EVERYONE), total_steps(config, num_train)
    everyone, folder, title = list(run.manifest), run.out / "refit", "model of all speakers"
    if can_stack(run, accelerator):
        module: Downstream | LiveModel = refit_stacked(run, total, best_step, title)
    else:
        module, _ = fit_fold(run, EVERYONE, folder, accelerator, title, everyone, [], total, best_step)
    model = run.model(module, everyone)
    if accelerator.is_main_process:
        model.save_pretrained(run.out / "model")
        if run.config.mode == "lora":  # once more with the adapters apart, for a push without the upstream
            run.save_fold(module, everyone, run.out / "adapter")
    accelerator.wait_for_everyone()
    return {**model_cost(model), "trained_parameters": trained_parameters(module), "refit_steps": best_step}


def pool(run: Run, folds: Sequence[Fold], cost: dict[str, Any]) -> dict[str, Any]:
    """The content of results.json from the folds' predictions."""
    per_fold = [(fold.name, Predictions.load(run.folder(fold) / "predictions.parquet")) for fold in folds]
    records = [read_record(run.folder(fold) / "fold.json", seconds=(int, float)) for fold in folds]
    info = {
        "corpus": run.corpus.name,
        "corpus_variant": run.corpus.variant,
        "upstream": run.config.upstream,
        "upstream_weights": weights_of(run.upstream),
        "upstream_fingerprint": run.upstream.fingerprint(),
        "hidden_states": run.stored,
        "layers": "best" if "layers" in run.config.sweep else run.config.layers,
        "num_layers": run.upstream.num_layers,
        "head": run.config.head,
        "protocol": run.corpus.protocol_used(run.manifest, run.config.protocol, run.config.num_folds),
        "speaker_independent": all(fold.speaker_independent for fold in folds),
        "dev_shares_speakers": any(fold.dev_shares_speakers for fold in folds),
        **sweep_info(run.config, {fold.name: run.folder(fold) for fold in folds}),
        "selected_by": _selected_by(run, records),
        "num_utterances": len(run.manifest),
        "num_speakers": len(set(run.manifest.speaker_names.values()) - {None}),
        "manifest_hash": run.manifest.hash,
        "licence": run.corpus.licence,
        "citation": run.corpus.citation,
        "warnings": [*run.warnings, *_split_batch_norms(run, records)],
        "label_warnings": label_warnings(run.tasks, folds, run.manifest),
        "cost": cost,
        "versions": versions(),
    }
    results = summarise(per_fold, info)
    for entry, record in zip(results["folds"], records, strict=True):
        entry |= record
    results["cost"]["training_seconds"] = round(sum(entry["seconds"] for entry in results["folds"]), 2)
    return results


def _selected_by(run: Run, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What selected: `metrics` {task: {metric: folds}}, whether `per_task` or by their mean, and `on` which utterances.

    Args:
        run: what was trained.
        records: fold.json of every fold.
    """
    metrics: dict[str, dict[str, int]] = {}
    for record in records:
        for task, metric in record["selected_by"].items():
            counts = metrics.setdefault(task, {})
            counts[metric] = counts.get(metric, 0) + 1
    on = sorted({record["chosen_by"] for record in records})
    return {"metrics": metrics, "per_task": issubclass(head_class(run.config.head), FittedHead), "on": "; ".join(on)}


def _split_batch_norms(run: Run, records: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence where a head's batch norms saw parts of a batch: nothing else depends on how a batch is split."""
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
    per_fold = [Predictions.load(run.folder(fold) / "predictions.parquet") for fold in folds]
    Predictions.concat(per_fold).save(run.out / "predictions.parquet")
    write_json(run.out / "results.json", results)
