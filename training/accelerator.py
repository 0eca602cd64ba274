"""Where a run computes: devices, processes and precision."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar, cast

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list

from undertone.downstream.network import needed_states
from undertone.training.config import RunConfig
from undertone.upstream.base import Upstream
from undertone.upstream.precision import AUTOCAST, choose_precision, native_precision, own_precision

T = TypeVar("T")


def with_precision(config: RunConfig, upstream: Upstream) -> tuple[RunConfig, str]:
    """The config with what `mixed_precision=auto` stands for, and a sentence where the upstream computes in another.

    Raises:
        ValueError: no such device, or a precision that the device or the upstream has not.
    """
    check_device(config.device)
    on_gpu = config.device != "cpu" and torch.cuda.is_available()
    device, wanted = torch.device("cuda" if on_gpu else "cpu"), config.mixed_precision
    precision = choose_precision(upstream, device, wanted)
    asked = native_precision(device) if wanted == "auto" else wanted
    note = ""
    if own_precision(upstream, asked) != asked:
        note = f"mixed_precision={wanted}: {upstream.name} has no weights and computes in float32"
    elif wanted == "auto":
        used = "bf16" if asked == "bf16" else "float32, as it has no bf16 of its own"
        note = f"mixed_precision=auto: this {'GPU' if on_gpu else 'CPU'} computes in {used}"
    return config.model_copy(update={"mixed_precision": precision}), note


def check_device(device: str) -> None:
    """Refuse what is no device, and a GPU where there is none."""
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"Setting 'device': input should be 'auto', 'cpu' or 'cuda', got {device!r}.")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device=cuda, but torch sees no GPU here. Use device=cpu, or install a GPU driver.")


def make_accelerator(
    device: str = "auto",  # auto, cpu or cuda
    precision: str = "no",  # no, bf16 or fp16
    deterministic: bool = False,  # use only algorithms that give the same bits every time
    log_with: str = "none",  # a tracker, or none
    project: Path | None = None,  # folder that the tracker writes to; None: nothing is tracked
) -> Accelerator:
    """Accelerate's view of devices and processes."""
    check_device(device)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    torch.use_deterministic_algorithms(deterministic)
    if AcceleratorState._shared_state.get("_mixed_precision", precision) != precision:
        AcceleratorState._reset_state()  # an earlier run of this process used another precision
    return Accelerator(
        cpu=device == "cpu",
        mixed_precision=precision,
        log_with=[TRACKERS[log_with]] if project is not None and log_with != "none" else None,
        project_dir=str(project) if project else None,
    )


TRACKERS = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow", "comet": "comet_ml"}
"""{`log_with`: the package, which is also Accelerate's name of it}."""


def check_tracker(log_with: str) -> None:
    """Refuse a tracker that is not installed; the ValueError says how to install it."""
    if log_with != "none" and find_spec(TRACKERS[log_with]) is None:
        raise ValueError(
            f"log_with={log_with} needs the package {TRACKERS[log_with]}: pip install 'undertone[{log_with}]'."
        )


def start_tracker(accelerator: Accelerator, config: RunConfig, folder: Path) -> None:
    """Begin the record of one training, if a tracker was asked for.

    TensorBoard's events lie in the training's folder. The services have a project `undertone` with a run a training,
    named `RUN/FOLD`, with its settings; their own environment variables (WANDB_MODE,
    MLFLOW_TRACKING_URI, COMET_API_KEY, ...) say where they send it.
    """
    if config.log_with == "tensorboard":
        accelerator.init_trackers("tensorboard")
        return
    folder.mkdir(parents=True, exist_ok=True)
    run, _, fold = str(folder).rpartition("/folds/")
    name = f"{Path(run).name}/{fold}"
    options = {"wandb": {"name": name, "dir": str(folder), "reinit": "finish_previous"}, "mlflow": {"run_name": name}}
    settings = {key: str(value) for key, value in config.model_dump(mode="json").items() if value is not None}
    accelerator.init_trackers("undertone", settings, options)


def finish_tracker(accelerator: Accelerator) -> None:
    """End the record of a training."""
    for tracker in accelerator.trackers:
        tracker.finish()
    accelerator.trackers = []


def accelerator_of(config: RunConfig, project: Path | None = None) -> Accelerator:
    """`make_accelerator` with the settings of a run.

    A head on the means of frozen states trains in float32 whatever the upstream computes in: fewer bits gain nothing
    there, and such heads train side by side.
    """
    on_means = config.trained == "frozen" and needed_states(config.head, config.layer_norm) == "mean"
    precision = config.mixed_precision if config.mixed_precision in AUTOCAST and not on_means else "no"
    return make_accelerator(config.device, precision, config.deterministic, config.log_with, project)


def first_decides(accelerator: Accelerator, decide: Callable[[], T]) -> T:
    """What the main process decides, in every process: on their own they could find the files in different states."""
    decision = [decide() if accelerator.is_main_process else None]
    broadcast_object_list(decision)
    return cast(T, decision[0])
