"""Checkpoints that survive a kill: safetensors and JSON, written atomically; the last two are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from undertone.common.files import atomic_path, read_record, remove_folder, write_json
from undertone.downstream.network import load_trained_state, trained_state

KEPT = 2


@dataclass
class Progress:
    """Where a training stands: all that resuming needs beside the weights and the optimiser's moments."""

    step: int = 0  # updates done
    epoch: int = 0  # of the current pass, counted from 0
    position: int = 0  # batches of that pass already done
    best: list[tuple[float, int]] = field(default_factory=list)  # (dev score, step) of the kept weights, best first
    evaluations_since_best: int = 0  # evaluations on dev without a better score
    finished: bool = False  # the training came to its end
    losses: list[float] = field(default_factory=list)  # of the updates since the last evaluation
    # one record per evaluation: step, epoch, lr, train_loss, dev
    history: list[dict[str, Any]] = field(default_factory=list)

    def rank(self, score: float, top: int) -> bool:
        """Whether the current weights are among the `top` best by dev score; of equals, the earlier is better."""
        ranked = sorted([*self.best, (score, self.step)], key=lambda entry: (-entry[0], entry[1]))
        self.best = ranked[:top]
        self.evaluations_since_best = 0 if self.best[0][1] == self.step else self.evaluations_since_best + 1
        return (score, self.step) in self.best


def save_weights(module: nn.Module, path: Path) -> None:
    """Write the tensors that training changes as safetensors, atomically."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in trained_state(module).items()}
    with atomic_path(path) as draft:
        save_file(state, draft)


def average_weights(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of several weights, computed in float64; integers are the first one's."""
    return {
        name: torch.stack([state[name].double() for state in states]).mean(0).to(first.dtype)
        if first.is_floating_point()
        else first
        for name, first in states[0].items()
    }


def save_checkpoint(folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """Write `folder/step-N` and remove all but the last `KEPT` checkpoints."""
    with atomic_path(folder / f"step-{progress.step:09d}") as draft:
        draft.mkdir()
        save_weights(module, draft / "weights.safetensors")
        save_file(_optimizer_tensors(optimizer), draft / "optimizer.safetensors")
        write_json(draft / "progress.json", asdict(progress))
    for old in _checkpoints(folder)[:-KEPT]:
        remove_folder(old)


def load_checkpoint(folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Restore the newest checkpoint in `folder`; returns a new `Progress` if there is none."""
    found = _checkpoints(folder)
    if not found:
        return Progress()
    load_trained_state(module, load_file(found[-1] / "weights.safetensors"))
    _restore_optimizer(optimizer, load_file(found[-1] / "optimizer.safetensors"))
    saved = read_record(found[-1] / "progress.json", step=int, best=list, evaluations_since_best=int)
    return Progress(**saved | {"best": [(score, step) for score, step in saved["best"]]})


def _checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted(folder.glob("step-*")) if folder.is_dir() else []


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's moments and step counts as `index.name` -> tensor; rates follow from the step and are not saved."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": value.detach().cpu().contiguous()
        for index, values in state.items()
        for name, value in values.items()
    }


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
