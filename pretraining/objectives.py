"""The losses of self-supervised training: masked units, with PASE's workers too, and wav2vec 2.0's contrastive loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2GumbelVectorQuantizer

from undertone.upstream.hf.upstream import HFUpstream
from undertone.upstream.types import WaveBatch, length_mask

# Models that put a learned vector in the place of masked frames, at the rate of their hidden states.
MASKED = (
    *("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat", "data2vec-audio"),
    *("wav2vec2-conformer", "wav2vec2-bert"),
)
HIDDEN = ("lasr_encoder", "parakeet_encoder")  # models that have none: the objective learns it, and layer 0 is hidden
TEMPERATURE = 0.1
REGRESSED = 3.0  # weight of the mean absolute error beside the units' cross-entropy


@dataclass(frozen=True)
class Targets:
    """What a batch is trained on; T are the frames of the padded batch."""

    mask: Tensor  # (B, T) bool, the frames that are hidden from the model and predicted
    units: Tensor  # (B, T) int64, for `MaskedUnits`; else 0
    negatives: Tensor  # (B, T, K) int64 frames of the same row, for `Contrastive`; else K is 0
    surroundings: Tensor | None = None  # (B, T, C), for `Workers`


@dataclass(frozen=True)
class Losses:
    """Sums over the masked frames of a batch."""

    total: Tensor  # (), to be minimised, of `count` frames
    correct: Tensor  # (), frames whose target has the highest score
    predicted: Tensor  # (K,), how often each unit or code vector was chosen; its perplexity is the diversity


class Objective(nn.Module, ABC):
    """An upstream with what its training needs beside it.

    Args:
        upstream: of a type in `MASKED` or `HIDDEN`.

    Raises:
        ValueError: another upstream.
    """

    def __init__(self, upstream: HFUpstream) -> None:
        super().__init__()
        if not isinstance(upstream, HFUpstream) or upstream.model.config.model_type not in MASKED + HIDDEN:
            raise ValueError(
                f"{upstream.name!r} cannot be pretrained: frames cannot be masked in it. Models in which they can: "
                f"{', '.join(MASKED + HIDDEN)}."
            )
        self.upstream = upstream
        vector = torch.rand(upstream.hidden_size) if upstream.model.config.model_type in HIDDEN else None
        self.mask_vector = None if vector is None else nn.Parameter(vector)

    @abstractmethod
    def forward(self, batch: WaveBatch, targets: Targets) -> Losses:
        """The losses of (B, N) samples."""


@contextmanager
def masked(objective: Objective, mask: Tensor) -> Iterator[dict[str, Any]]:
    """Within it, the upstream's model sees a learned vector in the place of the (B, T) masked frames.

    Yields a mapping that holds the model's own output, as `output`, once it was called; empty for models in `HIDDEN`.
    """
    upstream: Any = objective.upstream
    if objective.mask_vector is not None:
        with upstream.hiding(mask, objective.mask_vector):
            yield {}
        return
    model, found = upstream.model, {}

    def hide(
        module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args, kwargs | {"mask_time_indices": mask}

    def keep(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        found["output"] = output

    config = model.config
    before = {name: getattr(config, name, None) for name in ("apply_spec_augment", "mask_feature_prob")}
    handles = [model.register_forward_pre_hook(hide, with_kwargs=True), model.register_forward_hook(keep)]
    config.apply_spec_augment, config.mask_feature_prob = True, 0.0  # else transformers ignores the mask
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
        config.apply_spec_augment, config.mask_feature_prob = before["apply_spec_augment"], before["mask_feature_prob"]


class MaskedUnits(Objective):
    """Cross-entropy of the units of masked frames, by cosine to a learned vector a unit (HuBERT, eq. 3).

    Args:
        upstream: see `Objective`.
        num_units: K.
        size: of the vectors that are compared.
    """

    def __init__(self, upstream: HFUpstream, num_units: int, size: int = 256) -> None:
        super().__init__(upstream)
        self.projection = nn.Linear(upstream.hidden_size, size)
        self.vectors = nn.Parameter(
            torch.rand(num_units, size)
        )  # uniform in [0, 1), as fairseq and torchaudio draw them

    def scores(self, hidden: Tensor) -> Tensor:
        """(M, D) -> (M, K) cosines over the temperature."""
        projected = F.normalize(self.projection(hidden), dim=-1)  # (M, size)
        return projected @ F.normalize(self.vectors, dim=-1).T / TEMPERATURE

    def forward(self, batch: WaveBatch, targets: Targets) -> Losses:
        """See `Objective.forward`."""
        with masked(self, targets.mask):
            hidden = self.upstream(batch).states[:, -1]  # (B, T, D)
        return self.losses(hidden, self.upstream.frame_lengths(batch.lengths), targets)

    def losses(self, hidden: Tensor, frames: Tensor, targets: Targets) -> Losses:
        """Those of (B, T, D) hidden states with (B,) real frames."""
        mask = targets.mask[:, : hidden.shape[1]]
        scores = self.scores(hidden[mask]).float()  # (M, K)
        units = targets.units[:, : hidden.shape[1]][mask]  # (M,)
        chosen = scores.argmax(1)
        return Losses(
            F.cross_entropy(scores, units, reduction="sum"),
            (chosen == units).sum(),
            torch.bincount(chosen, minlength=scores.shape[1]).float(),
        )


class Workers(MaskedUnits):
    """`MaskedUnits`, and at every frame, masked or not, what `Surroundings` says of the second around it.

    As PASE's workers (Pascual et al. 2019): one linear layer regresses all of it, by the mean absolute error.

    Args:
        upstream: see `Objective`.
        num_units: K.
        num_regressed: C.
        size: of the vectors that units are told apart by.
    """

    def __init__(self, upstream: HFUpstream, num_units: int, num_regressed: int, size: int = 256) -> None:
        super().__init__(upstream, num_units, size)
        self.regression = nn.Linear(upstream.hidden_size, num_regressed)

    def losses(self, hidden: Tensor, frames: Tensor, targets: Targets) -> Losses:
        """See `MaskedUnits.losses`; the error of the regression counts `REGRESSED` times."""
        wanted: Any = targets.surroundings
        found = super().losses(hidden, frames, targets)
        real = length_mask(frames, hidden.shape[1])  # (B, T)
        errors = (self.regression(hidden) - wanted[:, : hidden.shape[1]])[real].float().abs()  # (R, C)
        return replace(found, total=found.total + REGRESSED * errors.mean() * targets.mask.sum())


class Contrastive(Objective):
    """wav2vec 2.0's loss (Baevski et al. 2020, eq. 2 to 4): find the quantised features of a masked frame.

    The distractors are other masked frames of the utterance; the diversity loss, weighted as the config says, asks for
    an even use of the code vectors. Quantiser and projections are new; those of a published model are not read.

    Args:
        upstream: a wav2vec 2.0 model, see `Objective`.
    """

    def __init__(self, upstream: HFUpstream) -> None:
        super().__init__(upstream)
        self.config = upstream.model.config
        if self.config.model_type != "wav2vec2":
            raise ValueError(
                f"--objective contrastive is that of wav2vec2 models, and {upstream.name!r} is a "
                f"{self.config.model_type} model. Use --objective units."
            )
        self.quantizer = Wav2Vec2GumbelVectorQuantizer(self.config)
        nn.init.normal_(self.quantizer.weight_proj.weight)  # as transformers initialises them
        nn.init.zeros_(self.quantizer.weight_proj.bias)
        nn.init.uniform_(self.quantizer.codevectors)
        self.projection = nn.Linear(self.config.hidden_size, self.config.proj_codevector_dim)
        self.quantised_projection = nn.Linear(self.config.codevector_dim, self.config.proj_codevector_dim)
        self.dropout = nn.Dropout(self.config.feat_quantizer_dropout)

    def forward(self, batch: WaveBatch, targets: Targets) -> Losses:
        """See `Objective.forward`."""
        with masked(self, targets.mask) as found:
            hidden = self.upstream(batch).states[:, -1]  # (B, T, D)
        mask, longest = targets.mask[:, : hidden.shape[1]], hidden.shape[1]
        features = self.dropout(found["output"].extract_features[:, :longest])  # (B, T, C)
        quantised, perplexity = self.quantizer(features, mask_time_indices=mask)
        quantised = self.quantised_projection(quantised)  # (B, T, P)
        rows = torch.arange(len(mask), device=mask.device)[:, None, None]
        others = quantised[rows, targets.negatives[:, :longest].clamp(max=longest - 1)]  # (B, T, K, P)
        candidates = torch.cat([quantised[:, :, None], others], 2)[mask]  # (M, 1 + K, P)
        predicted = self.projection(hidden[mask])  # (M, P)
        scores = F.cosine_similarity(predicted[:, None].float(), candidates.float(), dim=-1)
        scores = scores / self.config.contrastive_logits_temperature  # (M, 1 + K)
        same = (candidates[:, 1:] == candidates[:, :1]).all(-1)  # (M, K)
        scores = torch.cat([scores[:, :1], scores[:, 1:].masked_fill(same, -torch.inf)], 1)
        codes = self.config.num_codevectors_per_group * self.config.num_codevector_groups
        diversity = (codes - perplexity) / codes * mask.sum()
        total = F.cross_entropy(scores, scores.new_zeros(len(scores), dtype=torch.int64), reduction="sum")
        chosen = self.quantizer.weight_proj(features[mask]).unflatten(1, (self.config.num_codevector_groups, -1))
        first = chosen[:, 0].argmax(1)  # (M,), of the first group
        return Losses(
            total + self.config.diversity_loss_weight * diversity,
            (scores.argmax(1) == 0).sum(),
            torch.bincount(first, minlength=self.config.num_codevectors_per_group).float(),
        )
