"""Many downstreams with the head `linear` as one computation, at the cost of what differs between them.

A stack holds G groups of R trainings each. The R trainings of a group see the same batches (one fold and one seed at
several learning rates), so these are gathered once; each group sees batches of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.func import vmap
from torch.nn.utils import parameters_to_vector

from undertone.downstream.losses import LossOptions, cross_entropy_terms, loss_count, task_loss
from undertone.downstream.network import Downstream
from undertone.downstream.task import Task


class LinearStack:
    """The weights of G x R downstreams with the head `linear`, and their gradients in closed form.

    With no non-linearity between a mean x_l of the layer l and the logits, these are (sum_l w_l x_l) A' + c of the one
    matrix A = W2 W1 (C, D) and c = W2 b1 + b2, where W1, b1 are the projection and W2, b2 the outputs of all tasks
    side by side. So are the gradients: dW1 = W2' dA and dW2 = dA W1' + dc b1', and nothing of the size of the batch
    times the projection is ever computed. The largest of them, dW1, is written once, clipped already: its norm is that
    of the small W2 W2' and dA dA', |W2' dA|^2 = sum of (W2 W2') * (dA dA').

    Args:
        modules: G lists of R downstreams with weights of the same names and shapes; these are copied.
        tasks: what they predict.
        options: how their losses are made.
        class_weights: {task: (G, C)}, for tasks whose classes are weighted.

    Attributes:
        weights: {name: (G, R, ...)}, by the names of a downstream: views of `flat_weights`.
        gradients: of the same shapes, written by `backward`: views of `flat_gradients`.
        flat_weights: (G, R, P), all weights of a training side by side.
        flat_gradients: (G, R, P).
        num_layers: L; the first L of the P weights are the logits of the layer sum.
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
        self.flat_weights = torch.stack([torch.stack(row) for row in rows])  # (G, R, P)
        self.flat_gradients = torch.zeros_like(self.flat_weights)
        self.weights, self.gradients = self._views(self.flat_weights), self._views(self.flat_gradients)
        self.num_layers = self.weights["layer_sum.logits"].shape[-1]
        self.num_runs = len(modules[0])
        outputs = [f"head.outputs.layers.{key}" for key in self.template.head.outputs.layers]  # type: ignore[union-attr]
        self.output_weights = [f"{name}.weight" for name in outputs]
        self.output_biases = [f"{name}.bias" for name in outputs]
        self.widths = [task.num_outputs for task in tasks]
        device, dtype = self.weights["layer_sum.logits"].device, self.weights["layer_sum.logits"].dtype
        self.mixed, self.composed, self.d_mixed = (torch.empty(0, device=device, dtype=dtype) for _ in range(3))

    def _views(self, flat: Tensor) -> dict[str, Tensor]:
        """(G, R, P) -> {name: (G, R, ...)} of the same memory."""
        shapes = {name: weight.shape for name, weight in self.template.named_parameters()}
        parts = flat.split([shape.numel() for shape in shapes.values()], -1)
        return {name: part.unflatten(-1, shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}

    def state(self, group: int, run: int) -> dict[str, Tensor]:
        """A copy of the weights of one training."""
        return {name: value[group, run].clone() for name, value in self.weights.items()}

    def backward(self, states: Tensor, truth: Mapping[str, Tensor], largest_norms: Tensor) -> tuple[Tensor, Tensor]:
        """Write the gradients of all trainings' losses, clipped as `torch.nn.utils.clip_grad_norm_` does.

        Below, S = G x R.

        Args:
            states: (L, G, B, D) means of a batch of every group; padding comes last.
            truth: {task: (G, B) or (G, B, C)}, as `task_loss` takes them; those of padding are missing.
            largest_norms: (G, R).

        Returns:
            (G, R) losses, and (G, R) norms of the gradients before clipping.
        """
        _, groups, rows, size = states.shape
        by_group = states.flatten(2).transpose(0, 1)  # (G, L, B D)
        w1, b1, w2, b2 = self._flat()
        layers = self.weights["layer_sum.logits"].softmax(-1)  # (G, R, L)
        mixed = torch.bmm(layers, by_group, out=_shaped(self.mixed, groups, self.num_runs, rows * size))
        mixed = mixed.view(-1, rows, size)  # (S, B, D)
        composed = torch.bmm(w2, w1, out=_shaped(self.composed, *w2.shape[:2], size))  # (S, C, D), C of all tasks
        shift = torch.baddbmm(b2.unsqueeze(2), w2, b1.unsqueeze(2))  # (S, C, 1)
        logits = torch.baddbmm(shift.mT, mixed, composed.mT).requires_grad_()  # (S, B, C)
        losses = self._all_losses(self._by_task(logits, groups), truth)  # (G, R)
        (d_logits,) = torch.autograd.grad(losses.sum(), logits)  # (S, B, C)

        d_mixed = torch.bmm(d_logits, composed, out=_shaped(self.d_mixed, *mixed.shape))  # (S, B, D)
        d_composed = torch.bmm(d_logits.mT, mixed)  # (S, C, D)
        d_shift = d_logits.sum(1).unsqueeze(2)  # (S, C, 1)
        d_w2 = torch.baddbmm(d_shift @ b1.unsqueeze(1), d_composed, w1.mT)  # (S, C, H)
        d_b1 = torch.bmm(w2.mT, d_shift)  # (S, H, 1)
        d_layers = torch.bmm(by_group, d_mixed.view(groups, self.num_runs, -1).mT).mT  # (G, R, L)
        d_layers = layers * (d_layers - (d_layers * layers).sum(-1, keepdim=True))

        squares = [part.square().sum((-2, -1)) for part in (d_w2, d_b1, d_shift)]  # (S,) each
        squares.append(d_layers.flatten(0, 1).square().sum(-1))
        squares.append(((w2 @ w2.mT) * (d_composed @ d_composed.mT)).sum((-2, -1)).clamp(min=0))
        norms = torch.stack(squares).sum(0).sqrt().view(groups, self.num_runs)
        factor = (largest_norms / (norms + 1e-6)).clamp(max=1)  # (G, R), as in clip_grad_norm_
        self._write(factor.view(-1, 1, 1), w2, d_composed, d_b1, d_w2, d_shift)
        torch.mul(d_layers, factor.unsqueeze(-1), out=self.gradients["layer_sum.logits"])
        return losses.detach(), norms

    def _write(
        self, factor: Tensor, w2: Tensor, d_composed: Tensor, d_b1: Tensor, d_w2: Tensor, d_shift: Tensor
    ) -> None:
        """The gradients of all linear layers, times (S, 1, 1)."""
        out = {name: value.flatten(0, 1) for name, value in self.gradients.items()}
        torch.bmm(w2.mT, d_composed * factor, out=out["head.projector.weight"])
        torch.mul(d_b1, factor, out=out["head.projector.bias"].unsqueeze(2))
        for name, part in zip(self.output_weights, (d_w2 * factor).split(self.widths, 1), strict=True):
            out[name].copy_(part)
        for name, part in zip(self.output_biases, (d_shift * factor).squeeze(2).split(self.widths, 1), strict=True):
            out[name].copy_(part)

    def _all_losses(self, logits: Mapping[str, Tensor], truth: Mapping[str, Tensor]) -> Tensor:
        """{task: (G, R, B, C)} logits and (G, B) or (G, B, C) targets -> (G, R) losses, means over the batches.

        A classification loss is a sum over utterances and comes from one product; 1 - CCC is not, and uses `vmap`.
        """
        parts = []
        for task in self.tasks:
            name, weights = task.name, self.class_weights.get(task.name)
            counts = [
                loss_count(task, values, None if weights is None else weights[group])
                for group, values in enumerate(truth[name])
            ]
            count = torch.stack(counts).unsqueeze(1)  # (G, 1)
            if task.has_classes:
                per_class = None if weights is None else weights[:, None, None]  # (G, 1, 1, C)
                terms = cross_entropy_terms(task, logits[name], truth[name].unsqueeze(1), self.options, per_class)
                total = terms.sum((-2, -1))  # (G, R)
            else:
                total = vmap(vmap(partial(self._value_total, task), (0, None)))(logits[name], truth[name])  # (G, R)
            parts.append(task.weight * total / torch.where(count > 0, count, 1))
        return torch.stack(parts).sum(0)

    def _value_total(self, task: Task, logits: Tensor, truth: Tensor) -> Tensor:
        return task_loss(task, logits, truth, self.options)[0]

    def logits(self, group: int, states: Tensor) -> dict[str, Tensor]:
        """(L, N, D) means -> {task: (R, N, C)} of a group's trainings."""
        own = slice(group * self.num_runs, (group + 1) * self.num_runs)
        w1, b1, w2, b2 = (value[own] for value in self._flat())
        layers = self.weights["layer_sum.logits"][group].softmax(-1)  # (R, L)
        mixed = (layers @ states.flatten(1)).view(self.num_runs, *states.shape[1:])  # (R, N, D)
        shift = torch.baddbmm(b2.unsqueeze(2), w2, b1.unsqueeze(2))  # (R, C, 1)
        logits = torch.baddbmm(shift.mT, mixed, torch.bmm(w2, w1).mT)  # (R, N, C)
        return {name: value[0] for name, value in self._by_task(logits, 1).items()}

    def _flat(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """W1 (S, H, D), b1 (S, H), W2 (S, C, H) and b2 (S, C)."""
        flat = {name: value.flatten(0, 1) for name, value in self.weights.items()}
        return (
            flat["head.projector.weight"],
            flat["head.projector.bias"],
            torch.cat([flat[name] for name in self.output_weights], 1),
            torch.cat([flat[name] for name in self.output_biases], 1),
        )

    def _by_task(self, logits: Tensor, groups: int) -> dict[str, Tensor]:
        """(S, B, C) -> {task: (G, R, B, C)}."""
        parts = logits.unflatten(0, (groups, -1)).split(self.widths, -1)
        return {task.name: part for task, part in zip(self.tasks, parts, strict=True)}


def _shaped(memory: Tensor, *shape: int) -> Tensor:
    """The tensor itself with another shape; its memory is kept where it suffices."""
    return memory.resize_(shape)
