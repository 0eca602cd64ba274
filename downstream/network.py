"""Hidden states -> predictions: layer sums, fusion and head; alone, or with an upstream that learns too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from undertone.downstream.fusion import EARLY, LATE, Fusion, LateFusion, check_fusion
from undertone.downstream.head import Head, HeadOutput, build_head, head_class
from undertone.downstream.layer_sum import LayerSum
from undertone.downstream.task import Task
from undertone.upstream.base import Upstream
from undertone.upstream.dropout import batch_number
from undertone.upstream.hf.replay import replay_top
from undertone.upstream.hf.upstream import FamilyUpstream
from undertone.upstream.types import ALONE, Frames, HiddenStates, StreamBatch, StreamShape

# ---- The part that is trained on a frozen upstream: layer sum and head.


class Downstream(nn.Module):
    """Hidden states (B, L, T, D) of a stream or of several -> layer sums -> fusion -> head -> logits of every task."""

    upstream: None = None  # as a `LiveModel` has one

    def __init__(
        self,
        shapes: Mapping[str, StreamShape],  # of the upstream's streams (`stream_shapes`)
        tasks: tuple[Task, ...],  # what is predicted
        head: str,  # name of the head
        head_options: Mapping[str, Any],  # its options
        layer_norm: bool = False,  # normalise each layer before the sum
        fusion: str | None = None,  # of several streams, for a head that takes one
    ) -> None:
        super().__init__()
        check_fusion(head, fusion, tuple(shapes))
        self.shapes = dict(shapes)
        sums = {name: LayerSum(shape.num_layers, normalize=layer_norm) for name, shape in shapes.items()}
        # of one stream the names of its weights are those of the models that were saved before there were several
        self.layer_sum: nn.Module = sums[ALONE] if list(sums) == [ALONE] else nn.ModuleDict(sums)
        sizes = {name: shape.hidden_size for name, shape in shapes.items()}
        self.fusion: Fusion | None = None
        if fusion in EARLY:
            self.fusion = Fusion(str(fusion), shapes, means=head_class(head).needs == "mean")
            sizes = {ALONE: self.fusion.output_size}
        if fusion == LATE:
            self.head: Head = LateFusion(sizes, tasks, head=head, options=head_options)
        else:
            self.head = build_head(head, sizes, tasks, head_options)
        self.temperatures: dict[str, float] = {}  # of a calibrated model: what the logits of a task are divided by

    @property
    def downstream(self) -> Downstream:
        """Itself, as a `LiveModel` has one."""
        return self

    @property
    def layer_sums(self) -> dict[str, LayerSum]:
        """{stream: its layer sum}."""
        found: Any = self.layer_sum
        return {ALONE: found} if isinstance(found, LayerSum) else dict(found.items())

    def mixing_weights(self) -> list[nn.Parameter]:
        """What a softmax makes the weights of layers and streams of; learned with a rate of its own."""
        found = [one.logits for one in self.layer_sums.values()]
        return [*found, *([self.fusion.weights] if self.fusion is not None and self.fusion.weights is not None else [])]

    def frames(self, hidden: HiddenStates | StreamBatch) -> dict[str, Frames]:
        """{stream: (B, T, D)} that the head is given, one stream where they are joined."""
        found = {name: one(hidden.streams[name]) for name, one in self.layer_sums.items()}
        return found if self.fusion is None else {ALONE: self.fusion(found)}

    def forward(self, hidden: HiddenStates | StreamBatch) -> HeadOutput:
        """Logits, embedding and attention of a batch of hidden states."""
        output: HeadOutput = self.head(self.frames(hidden))
        scaled = {task: output.logits[task] / temperature for task, temperature in self.temperatures.items()}
        return replace(output, logits=output.logits | scaled) if scaled else output

    def after_update(self, progress: float) -> None:
        """What follows an update at this fraction of the training: nothing here."""

    @torch.no_grad()
    def embedding_size(self) -> int:
        """E of the head's embedding: asked of it, with one frame of silence."""
        device = self.mixing_weights()[0].device
        states = {
            name: HiddenStates(
                torch.zeros(1, shape.num_layers, 1, shape.hidden_size, device=device),
                torch.ones(1, dtype=torch.int64, device=device),
            )
            for name, shape in self.shapes.items()
        }
        training = self.training
        self.eval()
        size = self(StreamBatch(states)).embedding.shape[1]
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

    def hidden_states(self, batch: Any) -> HiddenStates | StreamBatch:
        """(B, N) samples -> (B, L, T, D); of several streams a `StreamBatch` of samples and states, or samples."""
        found: HiddenStates | StreamBatch = self.upstream(batch)
        return found

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
