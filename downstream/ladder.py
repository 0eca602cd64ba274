"""The ladder network: every layer of a head is reconstructed from its corrupted self and from the layer above.

Rasmus, Berglund, Honkala, Valpola & Raiko 2015 (arXiv 1507.02672); for speech emotion Parthasarathy & Busso 2020 (IEEE
TASLP 28, arXiv 1905.02921). The reconstruction needs no labels. Ours: the outputs are neither corrupted nor denoised,
so that any head can have a ladder; the decoder starts at the last hidden layer, as in the second paper's public code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from undertone.downstream.dense_layers import DenseLayer
from undertone.downstream.head import Head, HeadOutput, TaskOutputs
from undertone.downstream.ladder_options import LadderOptions
from undertone.downstream.network import Downstream
from undertone.downstream.norms import InputNorm, MaskedBatchNorm, input_deviation, masked_moments
from undertone.upstream.dropout import batch_number, random_normal
from undertone.upstream.types import ALONE, Frames, HiddenStates, StreamBatch

# ---- Denoising functions of a ladder: z~ and the signal from above u -> an estimate of the clean z, unit by unit.


class GaussianDenoiser(nn.Module):
    """g = (z~ - mu(u)) v(u) + mu(u), optimal for a Gaussian z (Rasmus et al. 2015, arXiv 1507.02672, eq. 8-10).

    mu(u) = a1 sigmoid(a2 u + a3) + a4 u + a5 and v(u) = a6 sigmoid(a7 u + a8) + a9 u + a10, ten numbers a unit; a2 and
    a7 start at 1, all others at 0, so that g starts at 0.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        start = torch.zeros(10, size)
        start[[1, 6]] = 1.0
        self.coefficients = nn.Parameter(start)

    def forward(self, noisy: Tensor, above: Tensor) -> Tensor:
        """z~ and u, (..., m) each -> (..., m)."""
        a1, a2, a3, a4, a5, a6, a7, a8, a9, a10 = self.coefficients
        mean = a1 * (a2 * above + a3).sigmoid() + a4 * above + a5  # (..., m)
        gain = a6 * (a7 * above + a8).sigmoid() + a9 * above + a10  # (..., m)
        return (noisy - mean) * gain + mean


class MlpDenoiser(nn.Module):
    """g = MLP([u, z~, u z~]) with 4 hidden units, the same for all units: as in Parthasarathy & Busso's replication."""

    def __init__(self, size: int) -> None:  # a number of units on which it does not depend
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.LeakyReLU(0.1), nn.Linear(4, 1))

    def forward(self, noisy: Tensor, above: Tensor) -> Tensor:
        """z~ and u, (..., m) each -> (..., m)."""
        return self.layers(torch.stack([above, noisy, above * noisy], -1)).squeeze(-1)


DENOISERS: dict[Literal["gaussian", "mlp"], type[GaussianDenoiser] | type[MlpDenoiser]] = {
    "gaussian": GaussianDenoiser,
    "mlp": MlpDenoiser,
}


# ---- The decoder and the two passes.

EPS = 1e-5


@dataclass
class Level:
    """One layer of one pass."""

    z: Tensor  # (B, T, m), normalised; in the corrupted pass with noise
    mask: Tensor  # (B, T) bool
    mean: Tensor  # (m,) or (), of what was normalised
    deviation: Tensor  # its standard deviation


class Ladder(nn.Module):
    """The decoder of a head, and the two passes that feed it.

    Layer 0 are the head's frames; above them the layers of a head made of `DenseLayer`s, or of any other head its
    embedding. With z the normalised values of a layer and z~ the corrupted ones,

        z^_l = g_l(z~_l, u_l),  u_L = BN(h~_L),  u_l = BN(V z^_{l+1}),  cost_l = mean of |z_l - (z^_l - mu_l) / sd_l|^2

    with mu_l and sd_l of the clean pass before its norm, 0 and 1 for layer 0. Batch statistics everywhere.

    Args:
        head: the encoder; it is not changed, and not a part of this module.
        input_size: D of its frames.
        embedding_size: E of its embedding.
        options: noise, weights of the costs, denoiser.
    """

    def __init__(self, head: Head, input_size: int, embedding_size: int, options: LadderOptions) -> None:
        super().__init__()
        layers = [module for module in head.modules() if isinstance(module, DenseLayer)]
        above = [layer.norm.num_features for layer in layers] or [embedding_size]
        self.sizes, self.options = [input_size, *above], options
        self.weights = options.weights(len(self.sizes))
        wanted = [level for level, weight in enumerate(self.weights) if weight]
        self.lowest = wanted[0] if wanted else len(self.sizes)  # below it nothing needs to be decoded
        kind, levels = DENOISERS[options.denoiser], range(self.lowest, len(self.sizes))
        self.denoisers = nn.ModuleDict({str(level): kind(self.sizes[level]) for level in levels})
        self.down = nn.ModuleDict(
            {str(level): nn.Linear(self.sizes[level + 1], self.sizes[level], bias=False) for level in levels[:-1]}
        )

    def forward(
        self, head: Head, frames: Frames, follow: bool = True
    ) -> tuple[HeadOutput, list[tuple[Tensor, Tensor]]]:
        """One clean and one corrupted pass through the head in train mode, with the same dropout.

        The clean one moves the running statistics of the head's batch norms if they are to `follow`, the corrupted one
        never does. Gives the output of the corrupted pass, and (sum (), count ()) of each layer's cost, which are means
        over units.
        """
        generator = None
        if self.options.noise:  # seeded from torch's random state, which stays as it is where there is no noise
            generator = torch.Generator(frames.features.device).manual_seed(int(torch.randint(2**62, ())))
        devices = [frames.features.device] if frames.features.is_cuda else []
        with (
            torch.random.fork_rng(devices),
            torch.set_grad_enabled(torch.is_grad_enabled() and not self.options.detach),
        ):
            with nullcontext() if follow else statistics_kept(head):
                clean, _, _ = self._encode(head, frames, None)
        with statistics_kept(head):
            noisy, top, output = self._encode(head, frames, generator)
        return output, self._costs(clean, noisy, top)

    def _encode(
        self, head: Head, frames: Frames, generator: torch.Generator | None
    ) -> tuple[list[Level], Tensor, HeadOutput]:
        """One pass: its levels, h of the last layer (B, T, m), and the head's output."""
        levels: list[Level] = []
        tops: list[Tensor] = []

        def at_norm(norm: MaskedBatchNorm, inputs: tuple[Tensor, Tensor], z: Tensor) -> Tensor:
            mean, deviation = z.new_zeros(()), z.new_ones(())
            if not isinstance(norm, InputNorm):
                mean, variance = norm.statistics(*inputs)
                deviation = norm.deviation(mean, variance)
            levels.append(Level(self._corrupt(z, inputs[1], generator), inputs[1], mean, deviation))
            return levels[-1].z

        inputs = [module for module in head.modules() if isinstance(module, InputNorm)]
        layers = [module for module in head.modules() if isinstance(module, DenseLayer)]
        norms = [*inputs, *(layer.norm for layer in layers)]
        handles = [norm.register_forward_hook(at_norm) for norm in norms]
        handles += [layer.register_forward_hook(lambda layer, inputs, hidden: tops.append(hidden)) for layer in layers]
        if not inputs:
            frames = self._enter(frames, levels, generator)
        try:
            output: HeadOutput = head({ALONE: frames})
        finally:
            for handle in handles:
                handle.remove()
        if not layers:
            tops.append(self._leave(output.embedding, levels, generator))
        return levels, tops[-1], output

    def _enter(self, frames: Frames, levels: list[Level], generator: torch.Generator | None) -> Frames:
        """Layer 0 of a head that does not normalise its frames: noise in units of their deviation."""
        mean, variance = masked_moments(frames.features, frames.mask)
        deviation = input_deviation(mean, variance)
        z = ((frames.features - mean) / deviation).masked_fill(~frames.mask.unsqueeze(-1), 0)  # (B, T, D)
        noisy = self._corrupt(z, frames.mask, generator)
        levels.append(Level(noisy, frames.mask, z.new_zeros(()), z.new_ones(())))
        return Frames(frames.features + deviation * (noisy - z), frames.lengths)

    def _leave(self, embedding: Tensor, levels: list[Level], generator: torch.Generator | None) -> Tensor:
        """The only layer above, of a head that is taken as it is: (B, E) -> (B, 1, E)."""
        hidden = embedding.unsqueeze(1)  # (B, 1, E)
        mask = torch.ones_like(hidden[..., 0], dtype=torch.bool)  # (B, 1)
        mean, variance = masked_moments(hidden, mask)
        deviation = (variance + EPS).sqrt()
        levels.append(Level(self._corrupt((hidden - mean) / deviation, mask, generator), mask, mean, deviation))
        return hidden

    def _corrupt(self, z: Tensor, mask: Tensor, generator: torch.Generator | None) -> Tensor:
        if generator is None:
            return z
        return z + self.options.noise * random_normal(z, generator) * mask.unsqueeze(-1)

    def _costs(self, clean: Sequence[Level], noisy: Sequence[Level], top: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(sum over frames of the mean over units, number of frames) of each layer that is decoded, from below."""
        costs: list[tuple[Tensor, Tensor]] = []
        signal, mask = top.float(), noisy[-1].mask
        for level in range(len(self.sizes) - 1, self.lowest - 1, -1):
            mean, variance = masked_moments(signal, mask)
            above = (signal - mean) / (variance + EPS).sqrt()  # (B, T or 1, m): one vector stands for all frames
            z, mask = noisy[level].z.float(), noisy[level].mask
            estimate = self.denoisers[str(level)](z, above.expand_as(z))  # (B, T, m)
            target = clean[level]
            error = target.z.float() - (estimate - target.mean) / target.deviation
            costs.insert(0, (error.square().mean(-1)[mask].sum(), mask.sum()))
            if level > self.lowest:
                signal = self.down[str(level - 1)](estimate)  # (B, T, m of the level below)
        return costs

    def losses(self, *passes: Sequence[tuple[Tensor, Tensor]]) -> dict[str, tuple[Tensor, Tensor]]:
        """The weighted costs of several `forward`s, joined frame by frame: {name: (sum (), count ())}."""
        losses: dict[str, Any] = {}
        for level, costs in enumerate(zip(*passes, strict=True), self.lowest):
            cost, count = (sum(parts) for parts in zip(*costs, strict=True))
            losses[f"reconstruction_{level}"] = (self.weights[level] * cost, count)
        return losses


@contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """Batch norms normalise by their batch, and their running statistics stay as they are."""
    norms: list[Any] = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
    try:
        for norm in norms:
            norm.momentum = 0.0
        yield
    finally:
        for norm, (momentum, num_batches) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(num_batches)


# ---- A downstream that is trained as a ladder network.


class LadderDownstream(Downstream):
    """Layer sum -> head, with a decoder beside it that only training uses; in eval mode a `Downstream` like any other.

    Layer sum and head are drawn first, so that they start as those of a `Downstream` with the same seed. A saved model
    holds them alone. It takes the arguments of a `Downstream`, and the ladder's noise, weights and denoiser.
    """

    layers_kept = False

    def __init__(self, *shape: Any, ladder: LadderOptions, **settings: Any) -> None:
        super().__init__(*shape, **settings)
        if len(self.head.input_sizes) > 1:
            raise ValueError("ladder=true reconstructs the frames of one stream. Join several with fusion=concat.")
        (size,) = self.head.input_sizes.values()
        self.ladder = Ladder(self.head, size, self.embedding_size(), ladder)

    def forward(
        self, hidden: HiddenStates | StreamBatch, unlabelled: HiddenStates | StreamBatch | None = None
    ) -> HeadOutput:
        """Logits of `hidden`; in training those of the corrupted pass, with the costs of both among the losses.

        Labelled and unlabelled utterances have batch statistics of their own, and only those of the labelled are kept
        for testing.
        """
        if not self.training:
            return super().forward(hidden)
        output, costs = self.ladder(self.head, self._joined(hidden))
        passes = [costs]
        if unlabelled is not None:
            with batch_number(1):
                passes.append(self.ladder(self.head, self._joined(unlabelled), follow=False)[1])
        losses: dict[str, tuple[Tensor, Tensor]] = output.losses | self.ladder.losses(*passes)
        return replace(output, losses=losses)

    def _joined(self, hidden: HiddenStates | StreamBatch) -> Frames:
        """(B, T, D) of the one stream that the head is given."""
        (frames,) = self.frames(hidden).values()
        return frames

    def keep_layers(self) -> None:
        """From now on only the tasks' linear outputs learn; everything below is as in testing."""
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
