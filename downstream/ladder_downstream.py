"""A downstream that is trained as a ladder network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from undertone.downstream.downstream import Downstream
from undertone.downstream.dropout import batch_number
from undertone.downstream.head import HeadOutput, TaskOutputs
from undertone.downstream.ladder import Ladder
from undertone.downstream.ladder_options import LadderOptions
from undertone.downstream.task import Task
from undertone.upstream.types import HiddenStates


class LadderDownstream(Downstream):
    """Layer sum -> head, with a decoder beside it that only training uses; in eval mode a `Downstream` like any other.

    Layer sum and head are drawn first, so that they start as those of a `Downstream` with the same seed. A saved model
    holds them alone.

    Args:
        num_layers: L of the upstream.
        hidden_size: D of the upstream.
        tasks: what is predicted.
        head: name of the head.
        head_options: its options.
        layer_norm: normalise each layer before the sum.
        ladder: noise, weights of the costs, denoiser.

    Raises:
        ValueError: the ladder has more weights than the head has layers.
    """

    layers_kept = False

    def __init__(
        self,
        num_layers: int,
        hidden_size: int,
        tasks: tuple[Task, ...],
        head: str,
        head_options: Mapping[str, Any],
        layer_norm: bool = False,
        ladder: LadderOptions = LadderOptions(),  # noqa: B008  # frozen
    ) -> None:
        super().__init__(num_layers, hidden_size, tasks, head, head_options, layer_norm)
        self.ladder = Ladder(self.head, hidden_size, self.embedding_size(), ladder)

    def forward(self, hidden: HiddenStates, unlabelled: HiddenStates | None = None) -> HeadOutput:
        """Logits of `hidden`; in training those of the corrupted pass, with the costs of both among the losses.

        Labelled and unlabelled utterances have batch statistics of their own, and only those of the labelled are kept
        for testing.
        """
        if not self.training:
            plain: HeadOutput = super().forward(hidden)
            return plain
        output, costs = self.ladder(self.head, self.layer_sum(hidden))
        passes = [costs]
        if unlabelled is not None:
            with batch_number(1):
                passes.append(self.ladder(self.head, self.layer_sum(unlabelled), follow=False)[1])
        losses: dict[str, tuple[Tensor, Tensor]] = output.losses | self.ladder.losses(*passes)
        joined: HeadOutput = replace(output, losses=losses)
        return joined

    def keep_layers(self) -> None:
        """From now on only the tasks' linear outputs learn; everything below is as in testing.

        Raises:
            ValueError: the head has no `TaskOutputs`.
        """
        outputs = [module for module in self.head.modules() if isinstance(module, TaskOutputs)]
        if not outputs:
            raise ValueError(
                "ladder.first=true needs a head whose outputs are a TaskOutputs module; this one has none."
            )
        self.requires_grad_(False)
        for module in outputs:
            module.requires_grad_(True)
        self.layers_kept = True
        self.eval()

    def train(self, mode: bool = True) -> LadderDownstream:
        """Train mode, unless the layers are kept."""
        super().train(mode and not self.layers_kept)
        return self
