"""Any Hugging Face speech model of a known family as an upstream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import AutoConfig, PreTrainedModel

from undertone.upstream.base import Upstream, fingerprint, quick_digest
from undertone.upstream.hf.families import find_family
from undertone.upstream.hf.limits import check_sample_rate, check_settings, check_size
from undertone.upstream.hf.masking import mask_norms
from undertone.upstream.hf.pretrained import (
    MASK_EMBEDDING,
    find_commit,
    prepare_config,
    read_config,
    read_model,
    read_preprocessing,
)
from undertone.upstream.types import HiddenStates, WaveBatch, length_mask

# Keys of a config that describe its file or a head, not what the base model computes.
NOT_COMPUTED = ("_name_or_path", "architectures", "auto_map", "dtype", "id2label", "label2id", "transformers_version")


def normalize(samples: Tensor, lengths: Tensor) -> Tensor:
    """(B, N) -> (B, N): each utterance's own samples at zero mean and unit variance, (x - mean) / sqrt(var + 1e-7).

    Population variance; the same as `Wav2Vec2FeatureExtractor(do_normalize=True)` utterance by utterance. What stands
    in the padding is ignored, and 0 afterwards.
    """
    mask = length_mask(lengths, samples.shape[1])  # (B, N)
    counts = lengths.clamp(min=1)[:, None]  # (B, 1)
    mean = (samples * mask).sum(1, keepdim=True) / counts  # (B, 1)
    centred = (samples - mean) * mask  # (B, N)
    variance = centred.square().sum(1, keepdim=True) / counts  # (B, 1)
    return centred / torch.sqrt(variance + 1e-7)  # (B, N)


class HFUpstream(Upstream):
    """All hidden states of a transformers model of a known family, the same alone or padded in a batch.

    In train mode every layer still gives its hidden state and no frame is masked: `layerdrop` and SpecAugment are off,
    and batch norms keep their running statistics. Dropout is as the config says.

    Attributes:
        family: what is particular to its kind, such as the names of its blocks; see `Family`.
    """

    def __init__(
        self,
        model: PreTrainedModel,  # the base model, its config prepared by `prepare_config`
        name: str,  # Hub id or folder it came from
        *,
        do_normalize: bool,  # feed each utterance at zero mean and unit variance
        sample_rate: int,  # Hz
        revision: str | None = None,  # what was asked of the Hub
        commit: str | None = None,  # the Hub's commit that was read
    ) -> None:
        super().__init__()
        self.family = find_family(model.config.model_type, name)
        self.name, self.revision, self.commit = name, revision, commit
        self.do_normalize, self.sample_rate = do_normalize, sample_rate
        self.num_layers, self.hidden_size = model.config.num_hidden_layers + 1, model.config.hidden_size
        self.random_weights = getattr(model.config, "undertone_random_weights", False)
        self.max_seconds = self.family.max_seconds(model.config)
        self.model = model
        self._group_norms, batch_norms = mask_norms(model)
        self._frame_masks = [*batch_norms, *self.family.prepare(model)]
        try:
            enough = (self.family.frame_lengths(model, torch.arange(1, sample_rate + 1)) >= 1).nonzero()
        except (OverflowError, RuntimeError):  # a stride of more digits than a number has in torch
            enough = torch.empty(0)
        if not len(enough):
            raise ValueError(f"Upstream {name!r} makes no frame of a second of audio: its config.json is damaged.")
        self.receptive_field = int(enough[0]) + 1  # samples of the first frame
        self._hashes: dict[str, str] = {}  # by `quick_digest`

    @classmethod
    def from_pretrained(cls, name: str, revision: str | None = None) -> HFUpstream:
        """Config, weights and preprocessing of a Hub id or folder."""
        config = read_config(name, revision)
        commit = find_commit(name, revision)
        do_normalize, sample_rate = read_preprocessing(name, commit or revision, config)
        model = read_model(name, commit or revision, config)
        return cls(model, name, do_normalize=do_normalize, sample_rate=sample_rate, revision=revision, commit=commit)

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], num_weights: int | None = None) -> HFUpstream:
        """The same architecture with weights of no meaning; only transformers' own classes are made.

        Raises:
            ValueError: the config is of no known speech family, asks for code from elsewhere, or for more weights than
                `num_weights`.
        """
        model_type = spec["config"]["model_type"]
        settings = {key: value for key, value in spec["config"].items() if key not in ("model_type", "auto_map")}
        family = find_family(model_type, spec["name"])
        check_settings(spec["name"], settings)
        check_sample_rate(spec["name"], spec["sample_rate"])
        config = prepare_config(AutoConfig.for_model(model_type, **settings))
        if num_weights is not None:
            check_size(spec["name"], family.model_class(config), config, num_weights)
        settings = {key: spec[key] for key in ("name", "do_normalize", "sample_rate", "revision", "commit")}
        return cls(family.model_class(config)(config).float(), **settings)

    @property
    def masks_padding(self) -> bool:
        """Whether transformers' own forward lets padding reach an utterance, so that it is kept out here."""
        return bool(self._group_norms or self._frame_masks)

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """(B,) int64 samples -> (B,) int64 frames, one at least."""
        return self.family.frame_lengths(self.model, lengths.clamp(min=self.receptive_field))

    def forward(self, batch: WaveBatch) -> HiddenStates:
        """(B, N) samples -> (B, L, T, D) hidden states in one forward of the model."""
        self.check_sample_rate(batch)
        self.check_length(batch)
        samples = batch.samples
        if samples.shape[1] < self.receptive_field:
            samples = torch.nn.functional.pad(samples, (0, self.receptive_field - samples.shape[1]))
        frames = self.frame_lengths(batch.lengths)
        if torch.compiler.is_compiling():  # a graph holds for lengths that it does not know
            return HiddenStates(self.states(samples, batch.lengths, frames, padded=True), frames)
        padded = bool((batch.lengths.clamp(min=self.receptive_field) < samples.shape[1]).any())
        return HiddenStates(self.states(samples, batch.lengths, frames, padded, int(frames.max())), frames)

    def states(
        self, samples: Tensor, lengths: Tensor, frames: Tensor, padded: bool, longest: int | None = None
    ) -> Tensor:
        """What `forward` computes, with nothing in it that depends on the lengths' values: it can be traced.

        Args:
            samples: (B, N), N >= `receptive_field`.
            lengths: (B,) samples.
            frames: (B,) `frame_lengths` of them.
            padded: whether any row is padded.
            longest: frames of the longest row; what a tracer has for a number will do. None: all that there are.

        Returns:
            (B, L, longest, D) with zeros in the padding frames, in the model's dtype.
        """
        samples = normalize(samples, lengths) if self.do_normalize else samples  # (B, N)
        lengths = lengths.clamp(min=self.receptive_field)
        self._set_masks(lengths, frames, padded)
        inputs = {
            name: value.to(self.model.dtype) if value.is_floating_point() else value
            for name, value in self.family.inputs(self.model.config, samples, lengths).items()
        }
        layers = self.model(**inputs, output_hidden_states=True).hidden_states
        if torch.compiler.is_compiling():  # torch.export refuses a module that a call has changed
            self._set_masks(lengths, frames, padded=False)
        if len(layers) != self.num_layers:
            raise ValueError(
                f"{self.name!r} gave {len(layers)} hidden states, expected num_hidden_layers + 1 = {self.num_layers}; "
                f"transformers {transformers.__version__} is not supported with this model."
            )
        longest = layers[0].shape[1] if longest is None else longest
        states = torch.stack([layer[:, :longest] for layer in layers], 1)  # (B, L, T, D)
        return states.masked_fill(~length_mask(frames, longest)[:, None, :, None], 0) if padded else states

    def _set_masks(self, lengths: Tensor, frames: Tensor, padded: bool) -> None:
        """Tell what was masked which of its frames are real; the group norm stands after the first convolution."""
        for norm in self._group_norms:
            kernel, stride = self.model.config.conv_kernel[0], self.model.config.conv_stride[0]
            norm.lengths = torch.div(lengths - kernel, stride, rounding_mode="floor") + 1 if padded else None
        for mask in self._frame_masks:
            mask.lengths = frames if padded else None

    def spec(self) -> dict[str, Any]:
        """JSON that `build_upstream` rebuilds this upstream from, without its weights."""
        config = self.model.config.to_dict()
        config.pop("_name_or_path", None)
        return {
            "kind": "hf",
            "name": self.name,
            "revision": self.revision,
            "commit": self.commit,
            "config": config,
            "do_normalize": self.do_normalize,
            "sample_rate": self.sample_rate,
        }

    def weights_hash(self) -> str:
        """Hex digest of the weights alone, but for SpecAugment's vector, which no hidden state needs."""
        return self._hash({})

    def fingerprint(self) -> str:
        """Hex digest of weights, config, preprocessing and transformers' version."""
        settings = {"do_normalize": self.do_normalize, "sample_rate": self.sample_rate}
        config = {key: value for key, value in self.model.config.to_dict().items() if key not in NOT_COMPUTED}
        return self._hash(settings | {"config": config, "transformers": transformers.__version__})

    def _hash(self, settings: Mapping[str, Any]) -> str:
        """The digest of settings and weights; made again when either has changed, in whatever way."""
        state = {name: tensor for name, tensor in self.model.state_dict().items() if name != MASK_EMBEDDING}
        key = quick_digest(settings, state)
        if key not in self._hashes:
            self._hashes[key] = fingerprint(settings, state)
        return self._hashes[key]
