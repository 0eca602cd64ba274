"""A Hugging Face speech model of a family that computes its input in PyTorch, as an upstream; and what all share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from undertone.upstream.base import Upstream, fingerprint, quick_digest
from undertone.upstream.hf.families import FAMILIES, Family
from undertone.upstream.hf.limits import check_sample_rate, check_settings, check_size
from undertone.upstream.hf.masking import mask_norms
from undertone.upstream.hf.pretrained import (
    MASK_EMBEDDING,
    check_features,
    find_commit,
    prepare_config,
    read_model,
    read_preprocessing,
)
from undertone.upstream.types import HiddenStates, WaveBatch, length_mask

# Keys of a config that describe its file or a head, not what the base model computes.
NOT_COMPUTED = ("_name_or_path", "architectures", "auto_map", "dtype", "id2label", "label2id", "transformers_version")


def computed(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a config, and of the configs of its parts, decides what the base model computes."""
    return {
        key: computed(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if key not in NOT_COMPUTED
    }


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
    """What every upstream that is a model of transformers has: names of its parts, LoRA, one hash of its weights.

    Attributes:
        model: the encoder alone, in transformers' own class, whatever it was a part of.
        family: what is particular to its kind, such as the names of its blocks; see `Family`.
        revision: what was asked of the Hub.
        commit: the Hub's commit that was read.
    """

    model: PreTrainedModel
    family: Family
    revision: str | None
    commit: str | None

    def __init__(self, model: PreTrainedModel, name: str, family: Family, revision: str | None, commit: str | None):
        super().__init__()
        self.model, self.name, self.family = model, name, family
        self.revision, self.commit = revision, commit
        self._hashes: dict[str, str] = {}  # by `quick_digest`

    @contextmanager
    def hiding(self, mask: Tensor, vector: Tensor) -> Iterator[None]:
        """While it lasts, `vector` (D,) stands at the (B, T) masked frames of layer 0 of a padded batch."""

        def before(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            first = args[0] if args else kwargs["hidden_states"]  # (B, T, D)
            hidden = torch.where(mask[:, : first.shape[1], None], vector.to(first), first)
            return ((hidden, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": hidden})

        block = next(self.model.get_submodule(self.family.blocks).children())
        hook = block.register_forward_pre_hook(before, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """JSON that decides, beside weights and config, what the model is fed with."""

    def weights_hash(self) -> str:
        """Hex digest of the weights alone, but for SpecAugment's vector, which no hidden state needs."""
        return self._hash({})

    def fingerprint(self) -> str:
        """Hex digest of weights, config, preprocessing and transformers' version."""
        config = computed(self.model.config.to_dict())
        return self._hash(self.settings() | {"config": config, "transformers": transformers.__version__})

    def _hash(self, settings: Mapping[str, Any]) -> str:
        """The digest of settings and weights; made again when either has changed, in whatever way."""
        state = {name: tensor for name, tensor in self.model.state_dict().items() if name != MASK_EMBEDDING}
        key = quick_digest(settings, state)
        if key not in self._hashes:
            self._hashes[key] = fingerprint(settings, state)
        return self._hashes[key]

    def _spec(self, config: PreTrainedConfig) -> dict[str, Any]:
        """JSON that the same architecture is made from again: a config, and what it is fed with."""
        made_from = config.to_dict()
        made_from.pop("_name_or_path", None)
        names = {"name": self.name, "revision": self.revision, "commit": self.commit}
        return {"kind": "hf", **names, "config": made_from, **self.settings()}


class FamilyUpstream(HFUpstream):
    """All hidden states of a model of a known family, the same alone or padded in a batch.

    In train mode every layer still gives its hidden state and no frame is masked: `layerdrop` and SpecAugment are off,
    and batch norms keep their running statistics. Dropout is as the config says.
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
        super().__init__(model, name, FAMILIES[model.config.model_type], revision, commit)
        self.do_normalize, self.sample_rate = do_normalize, sample_rate
        self.num_layers, self.hidden_size = model.config.num_hidden_layers + 1, model.config.hidden_size
        self.random_weights = getattr(model.config, "undertone_random_weights", False)
        self.max_seconds = self.family.max_seconds(model.config)
        self._group_norms, batch_norms = mask_norms(model)
        self._frame_masks = [*batch_norms, *self.family.prepare(model)]
        try:
            enough = (self.family.frame_lengths(model, torch.arange(1, sample_rate + 1)) >= 1).nonzero()
        except (OverflowError, RuntimeError):  # a stride of more digits than a number has in torch
            enough = torch.empty(0)
        if not len(enough):
            raise ValueError(f"Upstream {name!r} makes no frame of a second of audio: its config.json is damaged.")
        self.receptive_field = int(enough[0]) + 1  # samples of the first frame

    @classmethod
    def from_pretrained(cls, name: str, revision: str | None, config: PreTrainedConfig) -> FamilyUpstream:
        """Weights and preprocessing of a Hub id or folder whose config has been read."""
        commit = find_commit(name, revision)
        do_normalize, sample_rate = read_preprocessing(name, commit or revision, config)
        family = FAMILIES[config.model_type]
        model = read_model(name, commit or revision, config, family.model_class(config), family.key_mapping)
        return cls(model, name, do_normalize=do_normalize, sample_rate=sample_rate, revision=revision, commit=commit)

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], num_weights: int | None = None) -> FamilyUpstream:
        """The same architecture with weights of no meaning; only transformers' own classes are made.

        Raises:
            ValueError: the config asks for code from elsewhere, or for more weights than `num_weights`.
        """
        model_type = spec["config"]["model_type"]
        settings = {key: value for key, value in spec["config"].items() if key not in ("model_type", "auto_map")}
        family = FAMILIES[model_type]
        check_settings(spec["name"], settings)
        check_features(spec["name"], model_type, spec.get("extractor", {}))  # of an earlier version
        check_sample_rate(spec["name"], spec["sample_rate"])
        config = prepare_config(AutoConfig.for_model(model_type, **settings))
        if num_weights is not None:
            check_size(spec["name"], family.model_class(config), config, num_weights)
        settings = {key: spec[key] for key in ("name", "sample_rate", "revision", "commit")}
        # a family that was none when the spec was made, such as LASR's, has no such key
        normalizes = family.normalizes is not None and spec["do_normalize"]
        return cls(family.model_class(config)(config).float(), do_normalize=normalizes, **settings)

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

    def settings(self) -> dict[str, Any]:
        """Whether utterances are normalised, and the sample rate in Hz."""
        return {"do_normalize": self.do_normalize, "sample_rate": self.sample_rate}

    def spec(self) -> dict[str, Any]:
        """JSON that `build_upstream` rebuilds this upstream from, without its weights."""
        return self._spec(self.model.config)
