"""The device and precision of a run."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from undertone.training.config import RunConfig


def with_precision_of_device(config: RunConfig) -> tuple[RunConfig, str]:
    """The config with a precision that the device supports, and a note if that is not the requested one."""
    on_gpu = config.device != "cpu" and torch.cuda.is_available()
    wanted = usable = config.mixed_precision
    if wanted == "fp16" and not on_gpu:
        usable = "bf16"
    elif wanted == "bf16" and on_gpu and not torch.cuda.is_bf16_supported(including_emulation=False):
        usable = "fp16"
    if usable == wanted:
        return config, ""
    note = f"this {'GPU' if on_gpu else 'CPU'} does not support mixed_precision={wanted}; {usable} is used instead"
    return config.model_copy(update={"mixed_precision": usable}), note


def make_accelerator(config: RunConfig, project: Path | None = None) -> Accelerator:
    """The Accelerator of a run; with `project`, the trackers of `log_with` write there.

    Raises:
        ValueError: device=cuda without a GPU.
    """
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    torch.use_deterministic_algorithms(config.deterministic)
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device=cuda, but torch sees no GPU here. Use device=cpu, or install a GPU driver.")
    log_with = [config.log_with] if project is not None and config.log_with != "none" else None
    if AcceleratorState._shared_state.get("_mixed_precision", config.mixed_precision) != config.mixed_precision:
        AcceleratorState._reset_state()  # an earlier run of this process used another precision
    return Accelerator(
        cpu=config.device == "cpu",
        mixed_precision=config.mixed_precision,
        log_with=log_with,
        project_dir=str(project) if project else None,
    )
