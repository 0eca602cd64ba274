"""Hidden states -> predictions: layer sum and head; alone, or with an upstream that learns too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from undertone.downstream.dropout import batch_number
from undertone.downstream.head import HeadOutput, build_head, head_class
from undertone.downstream.layer_sum import LayerSum
from undertone.downstream.task import Task
from undertone.upstream.base import Upstream
from undertone.upstream.hf.replay import replay_top
from undertone.upstream.hf.upstream import FamilyUpstream
from undertone.upstream.types import HiddenStates

# ---- The part that is trained on a frozen upstream: layer sum and head.


class Downstream(nn.Module):
    """Hidden states (B, L, T, D) -> layer sum -> head -> logits of every task."""

    upstream: None = None  # as a `LiveModel` has one

    def __init__(
        self,
        num_layers: int,  # L of the upstream
        hidden_size: int,  # D of the upstream
        tasks: tuple[Task, ...],  # what is predicted
        head: str,  # name of the head
        head_options: Mapping[str, Any],  # its options
        layer_norm: bool = False,  # normalise each layer before the sum
    ) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.layer_sum = LayerSum(num_layers, normalize=layer_norm)
        self.head = build_head(head, {"speech": hidden_size}, tasks, head_options)
        self.temperatures: dict[str, float] = {}  # of a calibrated model: what the logits of a task are divided by

    @property
    def downstream(self) -> Downstream:
        """Itself, as a `LiveModel` has one."""
        return self

    def forward(self, hidden: HiddenStates) -> HeadOutput:
        """Logits, embedding and attention of a batch of hidden states."""
        output: HeadOutput = self.head({"speech": self.layer_sum(hidden)})
        scaled = {task: output.logits[task] / temperature for task, temperature in self.temperatures.items()}
        return replace(output, logits=output.logits | scaled) if scaled else output

    @torch.no_grad()
    def embedding_size(self) -> int:
        """E of the head's embedding: asked of it, with one frame of silence."""
        states = torch.zeros(1, len(self.layer_sum.logits), 1, self.hidden_size, device=self.layer_sum.logits.device)
        training = self.training
        self.eval()
        size = self(HiddenStates(states, torch.ones(1, dtype=torch.int64, device=states.device))).embedding.shape[1]
        self.train(training)
        return int(size)


def needed_states(head: str, layer_norm: bool) -> Literal["frames", "mean"]:
    """What a downstream must be fed: all frames, or their means where it is linear up to the pooling.

    The mean of normalised states is not the normalised mean, so with `layer_norm` it is frames for every head.
    """
    return "frames" if layer_norm else head_class(head).needs


# ---- Upstream and downstream trained together.


class LiveModel(nn.Module):
    """Audio -> upstream -> layer sum -> head, as one module to train; what is frozen stays in eval mode.

    Args:
        upstream: with `requires_grad` set on what learns (`undertone.upstream.hf.adapt`).
        downstream: layer sum and head.
    """

    def __init__(self, upstream: Upstream, downstream: Downstream) -> None:
        super().__init__()
        self.upstream, self.downstream = upstream, downstream

    def hidden_states(self, batch: Any) -> HiddenStates:
        """(B, N) samples -> (B, L, T, D)."""
        return self.upstream(batch)

    def forward(self, *batches: Any) -> HeadOutput:
        """A batch of what `hidden_states` takes, and for a ladder an unlabelled one -> logits, embedding, attention."""
        found = []
        for number, batch in enumerate(batches):
            with batch_number(number):  # whose dropout it is
                found.append(self.hidden_states(batch))
        return self.downstream(*found)

    def train(self, mode: bool = True) -> LiveModel:
        """Train mode where something learns; a module whose every weight is frozen drops nothing out."""
        super().train(mode)
        rest_frozen(self.upstream)
        return self


def rest_frozen(upstream: nn.Module) -> None:
    """Put every module whose weights are all frozen into eval mode."""
    for module in upstream.modules():
        weights = list(module.parameters())
        if weights and not any(weight.requires_grad for weight in weights):
            module.eval()


class TopLayersModel(LiveModel):
    """As `LiveModel`, the frozen lower blocks' hidden states read from the store instead of computed.

    Args:
        upstream: a Hugging Face one whose last `top` blocks learn.
        downstream: layer sum and head.
        top: how many.
    """

    def __init__(self, upstream: FamilyUpstream, downstream: Downstream, top: int) -> None:
        super().__init__(upstream, downstream)
        self.top = top

    def hidden_states(self, batch: HiddenStates) -> HiddenStates:
        """(B, L, T, D), stored -> (B, L, T, D), the last `top` layers computed."""
        return replay_top(self.upstream, batch, self.top)  # type: ignore[arg-type]


def trained_state(module: nn.Module) -> dict[str, Tensor]:
    """The part of a module's state that training changes: weights that learn, and buffers."""
    frozen = {name for name, weight in module.named_parameters() if not weight.requires_grad}
    return {name: value for name, value in module.state_dict().items() if name not in frozen}


def load_trained_state(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Put back what `trained_state` gave."""
    wanted = trained_state(module).keys()
    if wanted != state.keys():
        differing = sorted(wanted ^ state.keys())
        raise ValueError(f"The saved weights are not this training's: {', '.join(differing[:5])}. Start a new run.")
    module.load_state_dict(state, strict=False)
