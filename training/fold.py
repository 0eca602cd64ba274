"""A trained fold: its files, and who trains it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate import Accelerator
from filelock import FileLock
from safetensors.torch import load_file, save_file
from torch import Tensor

from undertone.corpora.folds import Fold
from undertone.downstream.downstream import Downstream
from undertone.downstream.live import LiveModel, trained_state
from undertone.files import atomic_path, read_json, remove_folder, write_json
from undertone.training.attention import attention_clips, save_attention
from undertone.training.cost import trained_parameters
from undertone.training.embeddings import save_embeddings
from undertone.training.postprocess import postprocess
from undertone.training.run import Run
from undertone.training.run_files import TRAINING
from undertone.training.scoring import predict, predict_and_embed, selected_by
from undertone.training.sweep import TRIED, WEIGHTS
from undertone.training.targets import scored_task
from undertone.training.trainer import Trained

if TYPE_CHECKING:
    from undertone.corpora.manifest import Utterance


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
