"""A model of pictures as an upstream: what a ResNet of transformers says of the frames of a clip's video."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel, ResNetConfig, ResNetModel

from undertone.audio.video import HOP_S, SIZE
from undertone.upstream.hf.families import Family
from undertone.upstream.hf.limits import check_settings, check_size
from undertone.upstream.hf.pretrained import SAMPLE_RATE, find_commit, read_model
from undertone.upstream.hf.upstream import HFUpstream
from undertone.upstream.types import HiddenStates, WaveBatch

PICTURES = "resnet"  # `model_type` of its config
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's red, green and blue
_FAMILY = Family(normalizes=None, front_end=(), blocks="encoder.stages", lora_targets=())


class VideoUpstream(HFUpstream):
    """The pooled features of a ResNet (He et al. 2016), of a picture of 96 x 96 pixels every 40 ms; one layer.

    Its frames are those of the sound, the last one as long as is left. A clip without video has zeros at all of them,
    whatever the weights. Batch norms keep their running statistics in train mode too, so that no clip depends on what
    shares its batch.
    """

    sees = True
    sample_rate = SAMPLE_RATE
    num_layers = 1

    def __init__(
        self,
        model: PreTrainedModel,  # without a classifier
        name: str,  # Hub id or folder it came from
        revision: str | None = None,  # what was asked of the Hub
        commit: str | None = None,  # the Hub's commit that was read
    ) -> None:
        super().__init__(model, name, _FAMILY, revision, commit)
        self.hop = round(HOP_S * self.sample_rate)
        self.hidden_size = model.config.hidden_sizes[-1]
        self.random_weights = getattr(model.config, "undertone_random_weights", False)
        self.eval()

    @classmethod
    def from_pretrained(cls, name: str, revision: str | None, config: PreTrainedConfig) -> VideoUpstream:
        """Weights of a Hub id or folder whose config has been read."""
        commit = find_commit(name, revision)
        return cls(read_model(name, commit or revision, config, ResNetModel, None), name, revision, commit)

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], num_weights: int | None = None) -> VideoUpstream:
        """The same architecture with weights of no meaning.

        Raises:
            ValueError: the config asks for code from elsewhere, or for more weights than `num_weights`.
        """
        name = spec["name"]
        given = {key: value for key, value in spec["config"].items() if key not in ("model_type", "auto_map")}
        check_settings(name, given)
        config = ResNetConfig(**given)
        if num_weights is not None:
            check_size(name, ResNetModel, config, num_weights)
        return cls(ResNetModel(config).float(), name, spec["revision"], spec["commit"])

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """(B,) int64 samples -> (B,) int64 frames."""
        return (lengths.clamp(min=1) - 1) // self.hop + 1

    def forward(self, batch: WaveBatch) -> HiddenStates:
        """(B, N) samples with pictures -> (B, 1, T, D); all pictures of a batch in one forward of the model.

        Raises:
            ValueError: the batch holds sound alone.
        """
        self.check_sample_rate(batch)
        pictures = batch.pictures if self.sees else (None,) * len(batch.lengths)
        if pictures is None:
            raise ValueError(f"Upstream {self.name!r} looks at pictures, got sound alone. Give the path of a video.")
        counts = self.frame_lengths(batch.lengths).tolist()
        seen = [one for one in pictures if one is not None]
        weight = next(self.model.parameters())
        found = iter(self._features(torch.cat(seen)).split([len(one) for one in seen]) if seen else ())
        rows = [
            weight.new_zeros(count, self.hidden_size) if one is None else next(found)  # (T, D)
            for one, count in zip(pictures, counts, strict=True)
        ]
        states = nn.utils.rnn.pad_sequence(rows, batch_first=True)[:, None]  # (B, 1, T, D)
        return HiddenStates(states, torch.tensor(counts)).to(batch.samples.device)

    def _features(self, pictures: Tensor) -> Tensor:
        """(P, H, W, 3) uint8 -> (P, D)."""
        weight = next(self.model.parameters())
        mean, deviation = (weight.new_tensor(one) for one in (_MEAN, _DEVIATION))
        inputs = (pictures.to(weight.device, weight.dtype) / 255 - mean) / deviation
        features: Tensor = self.model(inputs.permute(0, 3, 1, 2)).pooler_output  # (P, D, 1, 1)
        return features.flatten(1)

    def train(self, mode: bool = True) -> VideoUpstream:
        """Train mode, but for the batch norms."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def settings(self) -> dict[str, Any]:
        """Pixels of a picture, and seconds between two."""
        return {"picture": [SIZE, SIZE, HOP_S]}

    def spec(self) -> dict[str, Any]:
        """JSON that `build_upstream` rebuilds this upstream from, without its weights."""
        return self._spec(self.model.config)
