"""One fold: trained by gradients or by a solver, tested, and its files written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from filelock import FileLock, Timeout
from safetensors.torch import load_file, save_file
from torch import Tensor

from undertone.common.console import Advance
from undertone.common.files import atomic_path, read_json, remove_folder, write_json
from undertone.corpora.folds import Fold, inner_folds
from undertone.downstream.fitted_head import FittedHead, Reduced, check_C
from undertone.downstream.head import head_class
from undertone.downstream.ladder import LadderDownstream
from undertone.downstream.network import Downstream, LiveModel, needed_states, trained_state
from undertone.downstream.pooling import masked_mean
from undertone.experiments.attention import attention_clips, save_attention
from undertone.experiments.cost import trained_parameters
from undertone.experiments.embeddings import save_embeddings
from undertone.experiments.hidden_states import first_decides
from undertone.experiments.probe import leakage
from undertone.experiments.run import Run
from undertone.experiments.run_folder import TRAINING
from undertone.experiments.sweep import TRIED, WEIGHTS, chosen_trials, combine
from undertone.scoring.postprocess import postprocess
from undertone.training.accelerator import make_accelerator
from undertone.training.augmenter import Augmenter, Batch, CopySource, Hear
from undertone.training.config import RunConfig, trials, with_values
from undertone.training.prediction_loop import (
    metric_of,
    nothing_selects,
    predict,
    predict_and_embed,
    quick_metrics,
    selected_by,
    selecting_metrics,
)
from undertone.training.seeding import chunks
from undertone.training.sources import RecomputeSource
from undertone.training.targets import adversarial_tasks, scored_task, targets
from undertone.training.trainer import DEV_PART, Follow, Trained, Trainer, total_steps
from undertone.training.unlabelled import UnlabelledStream
from undertone.upstream.types import WaveBatch

if TYPE_CHECKING:
    from undertone.corpora.manifest import Utterance


# ---- A trained fold: its files, and who trains it.


def is_done(run: Run, fold: Fold) -> bool:
    """Whether the fold's files are all there.

    Raises:
        ValueError: they are those of another fold: file systems exist to which `F1` and `f1` are one name.
    """
    record = run.folder(fold) / "fold.json"
    if not record.is_file():
        return False
    name = read_json(record).get("name", fold.name)  # an earlier version wrote none
    if name != fold.name:
        raise ValueError(
            f"{record.parent} holds the fold {name!r}, and {fold.name!r} would overwrite it: to this file system both "
            f"names are one. Rename one of them in the corpus, and begin anew with another --out."
        )
    return True


def fold_lock(run: Run, fold: Fold) -> FileLock:
    """Held by the process that trains the fold; a dead process holds none."""
    folder = run.folder(fold)
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder.parent / f"{folder.name}.lock")


def write_tried(folder: Path, module: Downstream | LiveModel | None, trained: Trained, seconds: float) -> None:
    """Keep a trial until something is chosen: its weights, unless it is fitted again anyway, and then its outcome."""
    if module is not None:
        with atomic_path(folder / WEIGHTS) as draft:
            save_file(_state(module), draft)
    write_json(folder / "history.json", trained.history)
    outcome = {"dev_score": trained.best_score, "best_step": trained.best_step, "seconds": round(seconds, 2)}
    outcome |= {"micro_batches": trained.micro_batches, "chosen": trained.chosen, "chosen_by": trained.chosen_by}
    write_json(folder / TRIED, outcome)
    for name in ("checkpoints", "best", "layers"):
        remove_folder(folder / name)


def read_tried(folder: Path, module: Downstream | LiveModel | None) -> tuple[Trained, float]:
    """What `write_tried` kept, its weights put into the module; and the seconds that the trial took."""
    outcome = read_json(folder / TRIED)
    if module is not None:
        module.load_state_dict(load_file(folder / WEIGHTS), strict=False)
    trained = Trained(
        outcome["best_step"],
        outcome["dev_score"],
        read_json(folder / "history.json"),
        outcome["micro_batches"],
        outcome["chosen"],
        outcome["chosen_by"],
    )
    return trained, outcome["seconds"]


def _state(module: Downstream | LiveModel) -> dict[str, Tensor]:
    """All of the downstream, frozen parts too (a ladder's learned layers), and what training changes of an upstream."""
    names = {name for name in module.state_dict() if not name.startswith("upstream.")} | trained_state(module).keys()
    return {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items() if name in names}


def write_fold(
    run: Run,
    fold: Fold,
    folder: Path,
    accelerator: Accelerator,
    module: Downstream | LiveModel,
    trained: Trained,
    seconds: float,
    learned: Sequence[str],
    **found: Any,
) -> None:
    """Read test once and write a training's files; fold.json is written last and says that it is done.

    Args:
        run: with the config of this training.
        fold: what was trained.
        folder: where the files go.
        accelerator: devices and processes.
        module: holds the weights that were kept.
        trained: the outcome.
        seconds: that the training took.
        learned: ids of the utterances that the module was trained on.
        found: what else fold.json is to say.
    """
    train: Sequence[Utterance] = run.manifest.select(learned)
    predictions, embeddings = predict_and_embed(
        module, run.tasks, run.source, run.manifest.select(fold.test), accelerator, run.config.batch_size, fold.name
    )
    predictions = replace(predictions, speakers=[run.manifest.speaker_names[name] for name in predictions.ids])
    if steps := run.config.postprocess:
        dev = run.manifest.select(fold.dev)
        chosen_on = predict(module, run.tasks, run.source, dev, accelerator, run.config.batch_size)
        predictions, found["postprocess"] = postprocess(steps, chosen_on, predictions)
    for tracker in accelerator.trackers:
        tracker.finish()
    if accelerator.is_main_process:
        run.save_fold(module, list(train), folder / "model")
        predictions.save(folder / "predictions.parquet")
        save_embeddings(folder, predictions.ids, embeddings)
        test = run.manifest.select(fold.test)
        save_attention(folder, attention_clips(module, run.source, accelerator.device, test, predictions))
        write_json(folder / "history.json", trained.history)
        downstream = module.downstream if isinstance(module, LiveModel) else module
        record = {
            "name": fold.name,
            "best_step": trained.best_step,
            "dev_score": trained.best_score,
            "seconds": round(seconds, 2),
            "layer_weights": downstream.layer_sum.layer_weights().tolist(),
            "trained_parameters": trained_parameters(module),
            "num_train": len(fold.train),
            "num_dev": len(fold.dev),
            "num_test": len(fold.test),
            "chosen_by": trained.chosen_by,
            "selected_by": _selected_by(run, trained),
            "batch_parts": trained.micro_batches * accelerator.num_processes,
        }
        if trained.chosen:
            record["chosen"] = trained.chosen
        write_json(folder / "fold.json", record | found)
        for name in TRAINING:
            remove_folder(folder / name)
    accelerator.wait_for_everyone()


def _selected_by(run: Run, trained: Trained) -> dict[str, str]:
    """{task: metric} of the dev scores that selected."""
    looks = [record["dev"] for record in trained.history if "dev" in record]
    return selected_by([scored_task(task) for task in run.tasks], run.config.select_by, looks[-1]) if looks else {}


def take_fold(run: Run, fold: Fold, title: str) -> None:
    """Train the fold unless it is done or another process holds its lock; a dead process holds none."""
    accelerator = make_accelerator(run.config, run.folder(fold))
    lock = fold_lock(run, fold)

    def take() -> bool:
        if is_done(run, fold):
            return False
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        return not is_done(run, fold)  # it may have been finished in between

    if first_decides(accelerator, take):
        _run_fold(run, fold, accelerator, title)
    lock.release()
    accelerator.wait_for_everyone()


def _run_fold(run: Run, fold: Fold, accelerator: Accelerator, title: str) -> None:
    """Train a fold once, or once for every seed and value of the sweep, of which dev chooses; test is read once.

    Trials that are done are not repeated.
    """
    plan, folder = trials(run.config), run.folder(fold)
    if len(plan) == 1:
        module, trained, seconds = _try(run, fold, folder, accelerator, title)
        _finish(run, fold, folder, accelerator, title, module, trained, seconds)
        return
    for trial in plan:
        if not (folder / trial.name / TRIED).is_file():
            own = make_accelerator(trial.config, folder / trial.name)
            tried = _try(replace(run, config=trial.config), fold, folder / trial.name, own, f"{title} {trial.name}")
            if accelerator.is_main_process:
                write_tried(folder / trial.name, *tried)
            accelerator.wait_for_everyone()
    fitted = issubclass(head_class(run.config.head), FittedHead)
    for trial in chosen_trials(folder, plan):
        place, own = folder / trial.name, replace(run, config=trial.config)
        if not (place / "fold.json").is_file():
            module = None if fitted else own.of(fold.name).new_module(fold.name).to(accelerator.device)
            outcome = read_tried(place, module)
            one = make_accelerator(trial.config, place)
            _finish(own, fold, place, one, f"{title} {trial.name}", module, *outcome)
    if accelerator.is_main_process:
        combine(folder, plan)
    accelerator.wait_for_everyone()


def _try(
    run: Run, fold: Fold, folder: Path, accelerator: Accelerator, title: str
) -> tuple[Downstream | LiveModel | None, Trained, float]:
    """Train on train and select on dev: the module, but of a head that a solver fits, the outcome, and seconds."""
    began, run = time.monotonic(), run.of(fold.name)
    utterances, dev = run.manifest.select(fold.train), run.manifest.select(fold.dev)
    accelerator.init_trackers("tensorboard")
    if issubclass(head_class(run.config.head), FittedHead):
        with run.display.bar(title) as advance:
            module = cast(Downstream, run.new_module(fold.name))
            return None, choose(run, module, utterances, dev, accelerator, _follow(advance)), time.monotonic() - began
    total = total_steps(run.config, len(utterances))
    trainable, trained = fit_fold(run, fold.name, folder, accelerator, title, utterances, dev, total)
    return trainable, trained, time.monotonic() - began


def _finish(
    run: Run,
    fold: Fold,
    folder: Path,
    accelerator: Accelerator,
    title: str,
    module: Downstream | LiveModel | None,
    trained: Trained,
    seconds: float,
) -> None:
    """Fit what was chosen where it is not fitted yet, and write the fold's files: test is read here, once."""
    began, run = time.monotonic(), replace(run.of(fold.name), config=with_values(run.config, trained.chosen))
    train = run.manifest.select(fold.train)
    both = run.config.refit_on_dev or chooses_inside(run.config)
    learned = [*fold.train, *(fold.dev if both else ())]
    if both or module is None:
        title, total = f"{title}, {'train and dev' if both else 'train'}", total_steps(run.config, len(train))
        place, utterances = folder / "both", run.manifest.select(learned)
        module, _ = fit_fold(run, fold.name, place, accelerator, title, utterances, [], total, trained.best_step)
    leaks = _leakage(run, module, accelerator, train)
    seconds += time.monotonic() - began
    write_fold(run, fold, folder, accelerator, module, trained, seconds, learned, **leaks)


def _follow(advance: Advance) -> Follow:
    """What a training calls to move a bar on."""
    return lambda done, last, score: advance(done, last, "" if score is None else f"dev {score:.3f}")


def fit_fold(
    run: Run,
    name: str,
    folder: Path,
    accelerator: Accelerator,
    title: str,
    utterances: Sequence[Any],
    dev: Sequence[Any],
    total: int,
    stop_at: int | None = None,
) -> tuple[Downstream | LiveModel, Trained]:
    """What is trained, with the weights that were kept, and how that went; a progress bar shows it."""
    module = run.new_module(name)
    with run.display.bar(title) as advance:
        follow = _follow(advance)
        if not isinstance(module, LiveModel) and isinstance(module.head, FittedHead):
            return module, fit_head(run, module, utterances, accelerator, follow)
        augmenter, unlabelled = augmenter_of(run, accelerator), stream_of(run)
        if run.config.ladder_options.first and run.config.ladder:
            learn_layers(run, module, folder / "layers", accelerator, utterances, total, follow)
            unlabelled = None
        trainer = Trainer(run.config, run.tasks, run.source, module, folder, accelerator, follow, augmenter, unlabelled)
        trained = trainer.fit(utterances, dev, total, stop_at)
        return trainer.module, trained


def _leakage(run: Run, module: Downstream | LiveModel, accelerator: Accelerator, train: list[Any]) -> dict[str, Any]:
    """`leakage` {column: what a fresh probe finds of it in the training embeddings}, where there is an adversary."""
    adversarial = adversarial_tasks(run.config.adversarial, train)
    if not adversarial:
        return {}
    predictions, embeddings = predict_and_embed(
        module, run.tasks, run.source, train, accelerator, run.config.batch_size
    )
    row_of = {name: row for row, name in enumerate(predictions.ids)}  # values over time have any number of rows an id
    known = [item for item in train if item.id in row_of]
    embeddings = embeddings[[row_of[item.id] for item in known]]  # (N, E)
    return {"leakage": {task.name: leakage(embeddings, task, known) for task in adversarial}}


# ---- What a ladder adds to a training: the stream of unlabelled speech, and layers that are learned before the labels.


def stream_of(run: Run) -> UnlabelledStream | None:
    """What the run's ladder hears besides the corpus."""
    if not run.unlabelled:
        return None
    return UnlabelledStream(run.unlabelled, run.config.batch_size, run.config.seed)


def learn_layers(
    run: Run,
    module: Downstream | LiveModel,
    folder: Path,
    accelerator: Accelerator,
    utterances: Sequence[Utterance],
    total: int,
    follow: Follow,
) -> None:
    """Learn a ladder's layers by reconstruction alone, and then keep them: an autoencoder that a head is put on.

    Args:
        run: with a ladder.
        module: from `new_module`; afterwards only its linear outputs can learn.
        folder: of the checkpoints.
        accelerator: devices and processes.
        utterances: of the training part; no label is looked at.
        total: updates.
        follow: called after every update.

    Raises:
        ValueError: the upstream would learn as well.
    """
    if not isinstance(module, LadderDownstream):
        raise ValueError(f"ladder.first=true is for a frozen upstream, got mode={run.config.mode}. Use mode=frozen.")
    tasks = tuple(replace(task, weight=0.0) for task in run.tasks)
    config = run.config.model_copy(update={"task_weighting": "fixed", "adversarial": ()})
    trainer = Trainer(config, tasks, run.source, module, folder, accelerator, follow, unlabelled=stream_of(run))
    trainer.fit(utterances, [], total)
    module.keep_layers()


def augmenter_of(run: Run, accelerator: Accelerator) -> Augmenter | None:
    """What makes the run's training batches; None where augmentation is off."""
    config = run.config
    if not config.augment.is_on:
        return None
    hear: Hear = _as_it_is
    if config.mode == "frozen":
        mean = needed_states(config.head, config.layer_norm) == "mean"
        hear = RecomputeSource(run.upstream.to(accelerator.device), mean, config.mixed_precision).hear
    return Augmenter(config.augment, config.seed, run.upstream.sample_rate, run.source, hear)


def _as_it_is(batch: WaveBatch) -> Batch:
    return batch


def copies_of(run: Run, accelerator: Accelerator) -> list[CopySource]:
    """As many sources as the run's config asks for copies; none where augmentation is off."""
    augmenter = augmenter_of(run, accelerator)
    if augmenter is None:
        return []
    return [CopySource(augmenter, number, run.copies) for number in range(1, run.config.augment.copies + 1)]


# ---- Training of a head whose weights a solver finds: C is chosen first, then the head is fitted once.
#
# With `dev=inner`, the default, C is chosen by inner folds over the speakers of the fold's train and dev parts: with
# few speakers a dev part holds one or two of them, and what is best for these says little of others. Each of them is
# scored once by a head that was fitted without that speaker; the C with the best mean score over the inner folds is
# taken, for each task on its own, and the head is fitted with it on train and dev. With `dev=fold` the dev part alone
# is scored.

WITHOUT_EFFECT: dict[str, Any] = {
    "mode": "frozen",
    "adversarial": (),
    "task_weighting": "fixed",
    "label_smoothing": 0.0,
    "focal_gamma": 0.0,
    "ladder": False,
}
"""What changes a training by gradients, and the value at which it does not."""


def check_fitted(config: RunConfig) -> None:
    """Refuse settings that a head which is fitted by a solver cannot follow.

    Raises:
        ValueError: names the setting.
    """
    if not issubclass(head_class(config.head), FittedHead):
        if config.dev == "inner":
            raise ValueError(
                f"dev=inner is for heads that are fitted by a solver (svm, logistic, ridge); {config.head!r} is "
                f"trained by gradients and selects on the dev part of each fold. Leave dev=inner out."
            )
        return
    for key, values in config.sweep.items():
        if key == "head.C":
            for value in values:
                check_C(value)
    for name, neutral in WITHOUT_EFFECT.items():
        if (given := getattr(config, name)) != neutral:
            raise ValueError(
                f"Head {config.head!r} is fitted by a solver, not by gradients: {name}={given} has no meaning for it. "
                f"Leave it out, or take another head, such as linear."
            )


def chooses_inside(config: RunConfig) -> bool:
    """Whether inner folds over the speakers of train and dev choose, and both are fitted afterwards."""
    return config.dev == "inner" or (config.dev is None and issubclass(head_class(config.head), FittedHead))


def choose(
    run: Run,
    module: Downstream,
    train: Sequence[Utterance],
    dev: Sequence[Utterance],
    accelerator: Accelerator,
    follow: Follow,
) -> Trained:
    """Score every C of the run's sweep, or the only one, and choose one for each task; every process finds the same.

    One decomposition of an inner fold's training utterances serves every task and C. The test part has no role here.

    Args:
        run: its config's `dev`, `sweep`, `class_weights`, `select_by`, `batch_size` and `augment` count; a changed copy
            of an utterance counts as much as the utterance, goes with it, and is not scored.
        module: an untrained downstream with a `FittedHead`.
        train: of the fold.
        dev: of the fold.
        accelerator: devices and processes.
        follow: called with what was done and what there is to do, from reading features to the last inner fold.

    Returns:
        an outcome of one step, the only one there is.

    Raises:
        ValueError: a task has several C to choose from and no score on dev, or no task that selects has one.
    """
    config, utterances = run.config, [*train, *dev]
    parts, chosen_by = _parts(run, train, dev)
    last = len(utterances) * (1 + config.augment.copies) + len(parts)
    features = _features(run, module, utterances, accelerator, lambda done: follow(done, last, None))  # (K, N, D)
    head: Any = module.head
    wanted = selecting_metrics(run.tasks, config.select_by)
    grids = {task.name: list(config.sweep.get("head.C", ())) or [head.C[task.name]] for task in run.tasks}
    scores: dict[str, list[list[dict[str, float]]]] = {task.name: [] for task in run.tasks}  # part, C, metric
    for number, (fitted, scored) in enumerate(parts, 1):
        data = Reduced(_rows(features, fitted))
        held = data.standardise(features[0, scored])  # (M, D)
        for task in run.tasks:
            truth, balanced = targets(task, utterances), config.class_weights == "balanced"
            known = np.tile(truth[fitted], len(features))
            planes = head.planes(data, task, known, grids[task.name], balanced)
            found = [quick_metrics(task, truth[scored], held @ weights.T + bias) for weights, bias in planes]
            scores[task.name].append(found)
        follow(last - len(parts) + number, last, None)
    chosen, record, best = {}, {}, []
    for task in run.tasks:
        metric = wanted.get(task.name) or metric_of(task, config.select_by)
        values = [
            _mean(part[place].get(metric) for part in scores[task.name]) for place in range(len(grids[task.name]))
        ]
        defined = [place for place, value in enumerate(values) if value is not None]
        if not defined and len(values) > 1:
            raise nothing_selects({task.name: metric})
        place = max(defined, key=lambda one: values[one], default=0)  # type: ignore[arg-type, return-value]
        chosen[task.name] = grids[task.name][place]
        names = {name for part in scores[task.name] for name in part[place]}
        if names:
            record[task.name] = {
                name: _mean(part[place].get(name) for part in scores[task.name]) for name in sorted(names)
            }
        if task.name in wanted and defined:
            best.append(values[place])
    if not best:
        raise nothing_selects(wanted)
    score = float(np.mean(best))  # type: ignore[arg-type]
    history: dict[str, Any] = {"step": 1, "epoch": 1, "lr": None, "train_loss": None, "dev": record}
    follow(last, last, score)
    return Trained(
        1, score, [history], chosen={"head.C": chosen} if "head.C" in config.sweep else {}, chosen_by=chosen_by
    )


def fit_head(
    run: Run, module: Downstream, utterances: Sequence[Utterance], accelerator: Accelerator, follow: Follow
) -> Trained:
    """Fit the head on the mean of each utterance's frames and of each copy's; every process finds the same weights.

    Args:
        run: with nothing left to sweep; its config's `class_weights`, `batch_size` and `augment` count.
        module: an untrained downstream with a `FittedHead`; its layer sum stays the plain mean of the layers.
        utterances: to learn from.
        accelerator: devices and processes.
        follow: called with what was done and what there is to do.

    Returns:
        an outcome of one step, without a score.
    """
    last = len(utterances) * (1 + run.config.augment.copies) + 1
    features = _features(run, module, utterances, accelerator, lambda done: follow(done, last, None))  # (K, N, D)
    truth = {task.name: np.tile(targets(task, utterances), len(features)) for task in run.tasks}
    head: Any = module.head
    head.fit(features.reshape(-1, features.shape[-1]), truth, run.config.class_weights == "balanced")
    follow(last, last, None)
    return Trained(1, None, [])


def _parts(
    run: Run, train: Sequence[Utterance], dev: Sequence[Utterance]
) -> tuple[list[tuple[np.ndarray, np.ndarray]], str]:
    """Positions in train + dev to fit on and to score, for each part; and what to call that."""
    if not dev:
        return [], DEV_PART
    if not chooses_inside(run.config):
        return [(np.arange(len(train)), np.arange(len(train), len(train) + len(dev)))], DEV_PART
    utterances = [*train, *dev]
    with_classes = [task for task in run.tasks if task.has_classes]
    labels = targets(with_classes[0], utterances) if with_classes else np.zeros(len(utterances), np.int64)
    parts, by_speaker = inner_folds([(item.corpus, item.speaker) for item in utterances], labels)
    over = "speakers" if by_speaker else "utterances (there are too few speakers)"
    return parts, f"{len(parts)} inner folds over the training {over}, train and dev"


def _rows(features: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """(K, N, D) -> (K M, D): the utterances at these positions and all their copies."""
    found: np.ndarray = features[:, positions].reshape(-1, features.shape[-1])
    return found


def _mean(values: Iterable[float | None]) -> float | None:
    """Of those that are defined; None where none is."""
    defined = [value for value in values if value is not None and not np.isnan(value)]
    return float(np.mean(defined)) if defined else None


@torch.no_grad()
def _features(
    run: Run,
    module: Downstream,
    utterances: Sequence[Utterance],
    accelerator: Accelerator,
    advance: Callable[[int], None],
) -> np.ndarray:
    """(K, N, D) float64 means over the frames of the layer sum: of the utterances, then of each of their copies."""
    module.to(accelerator.device)
    found: list[np.ndarray] = []
    for source in (run.source, *copies_of(run, accelerator)):
        for batch in chunks(utterances, run.config.batch_size):
            hidden: Any = source(batch)
            means = masked_mean(module.layer_sum(hidden.to(accelerator.device))).double().cpu().numpy()
            found.append(means)
            advance(sum(map(len, found)))
    whole = np.concatenate(found)
    return whole.reshape(-1, len(utterances), whole.shape[-1])
