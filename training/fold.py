"""A trained fold: its files, and who trains it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate import Accelerator
from filelock import FileLock

from undertone.corpora.folds import Fold
from undertone.downstream.downstream import Downstream
from undertone.downstream.live import LiveModel
from undertone.files import remove_folder, write_json
from undertone.training.attention import attention_clips, save_attention
from undertone.training.cost import trained_parameters
from undertone.training.embeddings import save_embeddings
from undertone.training.postprocess import postprocess
from undertone.training.run import Run
from undertone.training.scoring import predict, predict_and_embed
from undertone.training.trainer import Trained

if TYPE_CHECKING:
    from undertone.corpora.manifest import Utterance


def is_done(run: Run, fold: Fold) -> bool:
    """Whether the fold's files are all there."""
    return (run.folder(fold) / "fold.json").is_file()


def fold_lock(run: Run, fold: Fold) -> FileLock:
    """Held by the process that trains the fold; a dead process holds none."""
    folder = run.folder(fold)
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder.parent / f"{folder.name}.lock")


def write_fold(
    run: Run,
    fold: Fold,
    folder: Path,
    accelerator: Accelerator,
    module: Downstream | LiveModel,
    trained: Trained,
    began: float,
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
        began: when the training began, by `time.monotonic`.
        found: what else fold.json is to say.
    """
    heard = [*fold.train, *(fold.dev if run.config.refit_on_dev else ())]
    train: Sequence[Utterance] = run.manifest.select(heard)
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
            "best_step": trained.best_step,
            "dev_score": trained.best_score,
            "seconds": round(time.monotonic() - began, 2),
            "layer_weights": downstream.layer_sum.layer_weights().tolist(),
            "trained_parameters": trained_parameters(module),
            "num_train": len(fold.train),
            "num_dev": len(fold.dev),
            "num_test": len(fold.test),
            "batch_parts": trained.micro_batches * accelerator.num_processes,
        }
        write_json(folder / "fold.json", record | found)
        remove_folder(folder / "checkpoints")
        remove_folder(folder / "best")
    accelerator.wait_for_everyone()
