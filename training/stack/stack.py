"""Many downstreams on means as one: their weights stacked, one gradient for all.

A stack holds F feeds of R trainings each. The R trainings of a feed see the same batches (one fold and one seed at
several learning rates), so that these are gathered once; feeds see batches of their own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call, vmap
from torch.nn.utils import parameters_to_vector

from undertone.downstream.dropout import UtteranceDropout
from undertone.downstream.losses import LossOptions, task_loss
from undertone.downstream.network import Downstream
from undertone.downstream.task import Task
from undertone.training.seeding import seed_everything
from undertone.upstream.types import HiddenStates


@dataclass(frozen=True)
class StackBatch:
    """A batch of every feed. Padding comes last, and its targets are missing.

    Attributes:
        states: (L, F, B, D) means.
        truth: {task: (F, B) or (F, B, C)}, as `task_loss` takes them.
        sizes: how many rows of each feed are no padding.
        seeds: what each feed's dropout depends on, beside the utterance.
        keys: (B,) `utterance_keys` of the rows of each feed that are no padding; empty where nothing drops out.
    """

    states: Tensor
    truth: Mapping[str, Tensor]
    sizes: Sequence[int]
    seeds: Sequence[tuple[object, ...]]
    keys: Sequence[Tensor]


class Stack(ABC):
    """The weights of F x R downstreams, and their gradients.

    Args:
        modules: F lists of R downstreams with weights of the same names and shapes; these are copied.
        tasks: what they predict.
        options: how their losses are made.
        class_weights: {task: (F, C)}, where classes are weighed.

    Attributes:
        weights: {name: (F, R, ...)}, by the names of a downstream: views of `flat_weights`.
        gradients: of the same shapes, written by `backward`: views of `flat_gradients`.
        flat_weights: (F, R, P), all weights of a training side by side.
        flat_gradients: (F, R, P).
        num_layers: L; the first so many of the P weights are the logits of the layer sum.
    """

    def __init__(
        self,
        modules: Sequence[Sequence[Downstream]],
        tasks: tuple[Task, ...],
        options: LossOptions,
        class_weights: Mapping[str, Tensor],
    ) -> None:
        self.template, self.tasks, self.options, self.class_weights = modules[0][0], tasks, options, class_weights
        rows = [[parameters_to_vector(module.parameters()).detach() for module in row] for row in modules]
        self.flat_weights = torch.stack([torch.stack(row) for row in rows])  # (F, R, P)
        self.flat_gradients = torch.zeros_like(self.flat_weights)
        self.weights, self.gradients = self._views(self.flat_weights), self._views(self.flat_gradients)
        self.num_layers = self.weights["layer_sum.logits"].shape[-1]

    def _views(self, flat: Tensor) -> dict[str, Tensor]:
        """(F, R, P) -> {name: (F, R, ...)} of the same memory."""
        shapes = {name: weight.shape for name, weight in self.template.named_parameters()}
        parts = flat.split([shape.numel() for shape in shapes.values()], -1)
        return {name: part.unflatten(-1, shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}

    @abstractmethod
    def backward(self, batch: StackBatch, largest_norms: Tensor) -> tuple[Tensor, Tensor]:
        """Write the gradients of all trainings' losses, clipped as `torch.nn.utils.clip_grad_norm_` does.

        Args:
            batch: of every feed.
            largest_norms: (F, R).

        Returns:
            (F, R) losses, and (F, R) norms of the gradients before they were clipped.
        """

    @abstractmethod
    def logits(self, feed: int, states: Tensor) -> dict[str, Tensor]:
        """(L, N, D) means -> {task: (R, N, C)} of a feed's trainings, without dropout."""

    def state(self, feed: int, run: int) -> dict[str, Tensor]:
        """A copy of the weights of one training."""
        return {name: value[feed, run].clone() for name, value in self.weights.items()}

    def _losses(
        self, logits: Mapping[str, Tensor], truth: Mapping[str, Tensor], class_weights: Mapping[str, Tensor]
    ) -> Tensor:
        """{task: (R, B, C)} logits of one feed, its targets and class weights -> (R,) losses, means over the batch."""

        def loss(logits: Mapping[str, Tensor]) -> Tensor:
            parts = []
            for task in self.tasks:
                name = task.name
                total, count = task_loss(task, logits[name], truth[name], self.options, class_weights.get(name))
                parts.append(task.weight * total / torch.where(count > 0, count, 1))
            return torch.stack(parts).sum()

        return vmap(loss)(dict(logits))


def clip_factors(norms: Tensor, largest_norms: Tensor) -> Tensor:
    """What gradients of these norms are multiplied with, as in `torch.nn.utils.clip_grad_norm_`."""
    return (largest_norms / (norms + 1e-6)).clamp(max=1)


class TracedStack(Stack):
    """Downstreams with any other head on means: one forward by `torch.vmap`, its gradient by autograd.

    The trainings of a feed share their dropout masks, as they do one by one: these depend on seed, step and utterance.
    """

    def backward(self, batch: StackBatch, largest_norms: Tensor) -> tuple[Tensor, Tensor]:
        """See `Stack`; one feed after the other."""
        self.template.train()
        found = []
        for feed, size in enumerate(batch.sizes):
            weights = {name: value[feed].detach().requires_grad_() for name, value in self.weights.items()}
            seed_everything(*batch.seeds[feed])
            with UtteranceDropout(batch.keys[feed]):
                logits, own = self._forward(weights, batch.states[:, feed, :size])
            truth = {name: value[feed, :size] for name, value in batch.truth.items()}
            class_weights = {name: value[feed] for name, value in self.class_weights.items()}
            losses = own + self._losses(logits, truth, class_weights)
            gradients = torch.autograd.grad(losses.sum(), list(weights.values()), materialize_grads=True)
            for name, gradient in zip(weights, gradients, strict=True):
                self.gradients[name][feed] = gradient
            found.append(losses.detach())
        norms = self.flat_gradients.norm(dim=-1)  # (F, R)
        self.flat_gradients *= clip_factors(norms, largest_norms).unsqueeze(-1)
        return torch.stack(found), norms

    @torch.no_grad()
    def logits(self, feed: int, states: Tensor) -> dict[str, Tensor]:
        """See `Stack`."""
        self.template.eval()
        return self._forward({name: value[feed] for name, value in self.weights.items()}, states)[0]

    def _forward(self, weights: Mapping[str, Tensor], states: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """{name: (R, ...)} and (L, N, D) -> {task: (R, N, C)} and the head's own losses (R,)."""
        hidden = HiddenStates(states.transpose(0, 1).unsqueeze(2), states.new_ones(states.shape[1], dtype=torch.int64))

        def forward(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
            output = functional_call(self.template, dict(weights), (hidden,))
            own = [total / count.clamp(min=1) for total, count in output.losses.values()]
            return output.logits, torch.stack([states.new_zeros(()), *own]).sum()

        return vmap(forward, randomness="same")(dict(weights))
