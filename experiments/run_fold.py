"""One fold: its trials trained by gradients or by a solver, the chosen ones tested, and its files written."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from filelock import FileLock
from safetensors.torch import load_file, save_file
from torch import Tensor

from undertone.common.files import atomic_path, read_json, remove_folder, write_json
from undertone.corpora.folds import Fold
from undertone.corpora.manifest import Utterance
from undertone.downstream.head import head_class
from undertone.downstream.ladder import LadderDownstream
from undertone.downstream.mean_teacher import MeanTeacherDownstream
from undertone.downstream.network import Downstream, LiveModel, trained_state
from undertone.experiments.attention import attention_clips, save_attention
from undertone.experiments.cost import trained_parameters
from undertone.experiments.embeddings import save_embeddings
from undertone.experiments.fitted_heads import choose, chooses_inside, fit_head, store_copies
from undertone.experiments.probe import leakage
from undertone.experiments.pseudo_labels import pseudo_labelled
from undertone.experiments.run import Run, Training
from undertone.experiments.run_folder import TRAINING
from undertone.experiments.streams_alone import fit_average, streams_alone
from undertone.experiments.sweep import TRIED, WEIGHTS, chosen_trials, combine
from undertone.scoring.calibration import calibrate
from undertone.scoring.postprocess import postprocess
from undertone.training.accelerator import accelerator_of, finish_tracker, first_decides, start_tracker
from undertone.training.config import AVERAGE, trials
from undertone.training.prediction_loop import predict_and_embed, selected_by
from undertone.training.targets import adversarial_tasks, scored_task
from undertone.training.trainer import Follow, Trained, Trainer, total_steps
from undertone.upstream.types import ALONE

Module = Downstream | LiveModel


def train_fold(run: Run, fold: Fold, title: str) -> None:
    """Train the fold, unless it is done or another process trains it, once or for every seed and value of the sweep.

    Dev chooses among several trials; test is read once. Trials that are done are not repeated.
    """
    accelerator = accelerator_of(run.config)
    lock: FileLock | None = None

    def take() -> bool:
        nonlocal lock
        lock = run.folder.lock(fold.name)
        return lock is not None

    try:
        if first_decides(accelerator, take):
            _train_trials(run, fold, title, accelerator)
    finally:
        if lock is not None:
            lock.release()
    accelerator.wait_for_everyone()


def _train_trials(run: Run, fold: Fold, title: str, accelerator: Accelerator) -> None:
    plan, folder = trials(run.config), run.folder.fold(fold.name)
    if len(plan) == 1:
        training = run.training(fold, plan[0], title)
        own = training.accelerator()
        _finish(training, own, *_try(training, own))
        return
    for trial in plan:
        if (folder / trial.name / TRIED).is_file():
            continue
        training = run.training(fold, trial, title)
        own = training.accelerator()
        tried = _try(training, own)
        finish_tracker(own)
        if accelerator.is_main_process:
            write_tried(training.folder, *tried)
        accelerator.wait_for_everyone()
    for trial in chosen_trials(folder, plan):
        if (folder / trial.name / "fold.json").is_file():
            continue
        training = run.training(fold, trial, title)
        fitted = head_class(trial.config.head).is_fitted  # again, with the C that was chosen
        module = None if fitted else training.new_module().to(accelerator.device)
        _finish(training, training.accelerator(), module, *read_tried(training.folder, module))
    if accelerator.is_main_process:
        combine(folder, plan)
    accelerator.wait_for_everyone()


def _try(training: Training, accelerator: Accelerator) -> tuple[Module | None, Trained, float]:
    """Train on train and select on dev: the module (None of a head that a solver fits), the outcome, and seconds."""
    started = time.monotonic()
    start_tracker(accelerator, training.config, training.folder)
    if head_class(training.config.head).is_fitted:
        store_copies(training, [*training.train, *training.dev], accelerator)
        with training.run.display.bar(training.title) as advance:
            trained = choose(training, training.new_downstream(), accelerator, _follow(advance))
        return None, trained, time.monotonic() - started
    module, trained = fit(training, accelerator, training.folder, training.train, training.dev)
    return module, trained, time.monotonic() - started


def _finish(
    training: Training, accelerator: Accelerator, module: Module | None, trained: Trained, seconds: float
) -> None:
    """Fit what was chosen where it is not fitted yet, and write the fold's files: test is read here, once."""
    started, fold = time.monotonic(), training.fold
    training = training.with_values(trained.chosen)
    both = training.config.refit_on_dev or chooses_inside(training.config)
    learned = [*training.train, *(training.dev if both else ())]
    if both or module is None:
        refit = replace(training, title=f"{training.title}, {'train and dev' if both else 'train'}")
        place, total = training.folder / "both", total_steps(training.config, len(fold.train))
        module, _ = fit(refit, accelerator, place, learned, [], total, trained.best_step)
    leaks = _leakage(training, module, accelerator)
    seconds += time.monotonic() - started
    write_fold(training, accelerator, module, trained, seconds, learned, **leaks)


def _follow(advance: Any) -> Follow:
    """What a training calls to move a progress bar."""
    return lambda done, last, score: advance(done, last, "" if score is None else f"dev {score:.3f}")


def fit(
    training: Training,
    accelerator: Accelerator,
    folder: Path,
    utterances: Sequence[Utterance],
    dev: Sequence[Utterance],
    total: int | None = None,
    stop_at: int | None = None,
) -> tuple[Module, Trained]:
    """Train a new module on the utterances, with a progress bar and checkpoints in the folder.

    Without dev the last weights are kept, else those that it selects. `total` counts the updates of the whole schedule
    (None: those of a training on the utterances), `stop_at` those that are made.
    """
    once = partial(_fit_once, accelerator=accelerator, dev=dev, total=total, stop_at=stop_at)
    if training.config.head == AVERAGE:
        return fit_average(training, folder / "alone", utterances, dev, accelerator, once)
    if training.config.alone_first:
        return once(training, folder, utterances, streams_alone(training, folder / "alone", utterances, once))
    if training.config.pseudo_labels is None:
        return once(training, folder, utterances)
    module, _ = once(training, folder / "without-pseudo-labels", utterances)
    found = pseudo_labelled(training, module, accelerator, dev)
    training.run.display.say(f"{training.title}: {found.sentence}".removeprefix(": "))
    again = replace(training, title=f"{training.title}, with pseudo-labels")
    return once(again, folder, [*utterances, *found.utterances])


def _fit_once(
    training: Training,
    folder: Path,
    utterances: Sequence[Utterance],
    start: Mapping[str, Tensor] | None = None,
    *,
    accelerator: Accelerator,
    dev: Sequence[Utterance],
    total: int | None,
    stop_at: int | None,
) -> tuple[Module, Trained]:
    """One training of `fit`, from new weights, or where `start` has one, from that."""
    run, config, module = training.run, training.config, training.new_module()
    module.load_state_dict(dict(start or {}), strict=False)
    total = total or total_steps(config, len(utterances))
    store_copies(training, utterances, accelerator)
    with run.display.bar(training.title) as advance:
        follow = _follow(advance)
        if head_class(config.head).is_fitted:
            return module, fit_head(training, module.downstream, utterances, accelerator, follow)
        augmenter, unlabelled = training.augmenter(accelerator.device), training.unlabelled_stream()
        if config.ladder and config.ladder_options.first:
            _learn_layers(training, module, folder / "layers", accelerator, utterances, total, follow)
            unlabelled = None
        trainer = Trainer(
            config, run.tasks, training.source, module, folder, accelerator, follow, augmenter, unlabelled
        )
        trained = trainer.fit(utterances, dev, total, stop_at)
        if isinstance(trainer.module.downstream, MeanTeacherDownstream):
            trainer.module.downstream.take_average()
        return trainer.module, trained


def _learn_layers(
    training: Training,
    module: Module,
    folder: Path,
    accelerator: Accelerator,
    utterances: Sequence[Utterance],
    total: int,
    follow: Follow,
) -> None:
    """Learn a ladder's layers by reconstruction alone, without labels, and then keep them: an autoencoder.

    Afterwards only the linear outputs of the module are trainable.
    """
    if not isinstance(module, LadderDownstream):
        mode = training.config.trained
        raise ValueError(f"ladder.first=true is for a frozen upstream, got mode={mode}. Use mode=frozen.")
    tasks = tuple(replace(task, weight=0.0) for task in training.run.tasks)
    config = training.config.model_copy(update={"task_weighting": "fixed", "adversarial": ()})
    stream = training.unlabelled_stream()
    trainer = Trainer(config, tasks, training.source, module, folder, accelerator, follow, unlabelled=stream)
    trainer.fit(utterances, [], total)
    module.keep_layers()


def _leakage(training: Training, module: Module, accelerator: Accelerator) -> dict[str, Any]:
    """`leakage` {column: what a new probe finds of it in the training embeddings}, where there is an adversary."""
    config, train = training.config, training.train
    adversarial = adversarial_tasks(config.adversarial, train)
    if not adversarial:
        return {}
    predictions, embeddings = predict_and_embed(
        module, training.run.tasks, training.source, train, accelerator, config.batch_size
    )
    row_of = {name: row for row, name in enumerate(predictions.ids)}  # values over time: several rows an id
    known = [item for item in train if item.id in row_of]
    embeddings = embeddings[[row_of[item.id] for item in known]]  # (N, E)
    return {"leakage": {task.name: leakage(embeddings, task, known) for task in adversarial}}


# ---- The files of a training.


_KEPT = ("micro_batches", "chosen", "chosen_by", "calibration", "streams")  # of a trial's outcome


def write_tried(folder: Path, module: Module | None, trained: Trained, seconds: float) -> None:
    """Keep a trial until one is chosen: its weights, unless it is fitted again anyway, and then its outcome."""
    if module is not None:
        with atomic_path(folder / WEIGHTS) as draft:
            save_file(_state(module), draft)
    write_json(folder / "history.json", trained.history)
    outcome = {"dev_score": trained.best_score, "best_step": trained.best_step, "seconds": round(seconds, 2)}
    more = {name: getattr(trained, name) for name in _KEPT}
    write_json(folder / TRIED, outcome | more)
    for name in TRAINING:
        remove_folder(folder / name)


def read_tried(folder: Path, module: Module | None) -> tuple[Trained, float]:
    """The outcome that `write_tried` kept, its weights loaded into the module; and the seconds that the trial took."""
    outcome = read_json(folder / TRIED)
    if module is not None:
        module.load_state_dict(load_file(folder / WEIGHTS), strict=False)
    score, history = outcome["dev_score"], read_json(folder / "history.json")
    rest = {name: outcome[name] for name in _KEPT if name in outcome}  # an earlier version kept fewer
    return Trained(outcome["best_step"], score, history, **rest), outcome["seconds"]


def _state(module: Module) -> dict[str, Tensor]:
    """All of the downstream, frozen parts too (a ladder's learned layers), and what training changes of an upstream."""
    names = {name for name in module.state_dict() if not name.startswith("upstream.")} | trained_state(module).keys()
    return {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items() if name in names}


def write_fold(
    training: Training,
    accelerator: Accelerator,
    module: Module,
    trained: Trained,
    seconds: float,
    learned: list[Utterance],
    **found: Any,
) -> None:
    """Read test once and write a training's files; fold.json is written last and says that it is done.

    `learned` are the utterances that the module was trained on, `found` further entries of fold.json.
    """
    run, fold, config, folder = training.run, training.fold, training.config, training.folder
    settings = run.tasks, training.source
    predictions, embeddings = predict_and_embed(
        module, *settings, training.test, accelerator, config.batch_size, fold.name
    )
    has_classes = any(task.has_classes for task in run.tasks)
    calibrates = has_classes and not set(fold.dev) & {item.id for item in learned}  # dev it was not trained on
    if config.postprocess or calibrates:
        on_dev, _ = predict_and_embed(module, *settings, training.dev, accelerator, config.batch_size)
    predictions = replace(predictions, speakers=[run.manifest.speaker_names[name] for name in predictions.ids])
    if config.postprocess:
        predictions, found["postprocess"] = postprocess(config.postprocess, on_dev, predictions)
    found["calibration"] = calibrate(on_dev) if calibrates else trained.calibration
    finish_tracker(accelerator)
    if accelerator.is_main_process:
        training.save(module, learned, folder / "model")
        predictions.save(folder / "predictions.parquet")
        save_embeddings(folder, predictions.ids, embeddings)
        clips = attention_clips(module, training.source, accelerator.device, training.test, predictions)
        save_attention(folder, clips)
        write_json(folder / "history.json", trained.history)
        record = {
            "name": fold.name,
            "best_step": trained.best_step,
            "dev_score": trained.best_score,
            "seconds": round(seconds, 2),
            "layer_weights": _layer_weights(module.downstream),
            "trained_parameters": trained_parameters(module),
            "num_train": len(fold.train),
            "num_dev": len(fold.dev),
            "num_test": len(fold.test),
            "chosen_by": trained.chosen_by,
            "selected_by": _selected_by(training, trained),
            "batch_parts": trained.micro_batches * accelerator.num_processes,
        }
        if trained.chosen:
            record["chosen"] = trained.chosen
        if trained.streams:
            record["streams"] = trained.streams
        write_json(folder / "fold.json", record | found)
        for name in TRAINING:
            remove_folder(folder / name)
    accelerator.wait_for_everyone()


def _layer_weights(downstream: Downstream) -> list[float] | dict[str, list[float]]:
    """The weights of the layer sum; of several streams by their names."""
    found = {name: one.layer_weights().tolist() for name, one in downstream.layer_sums.items()}
    return found[ALONE] if list(found) == [ALONE] else found


def _selected_by(training: Training, trained: Trained) -> dict[str, str]:
    """{task: metric} of the dev scores that selected."""
    evaluations = [record["dev"] for record in trained.history if "dev" in record]
    tasks = [scored_task(task) for task in training.run.tasks]
    return selected_by(tasks, training.config.select_by, evaluations[-1]) if evaluations else {}
