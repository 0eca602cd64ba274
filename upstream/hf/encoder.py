"""Any audio encoder of transformers as an upstream, fed by transformers' own feature extractor."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from undertone.upstream.dropout import in_groups
from undertone.upstream.hf.encoder_types import MASKED, TYPES, EncoderType, Inputs
from undertone.upstream.hf.extractor import (
    default_extractor,
    extract_features,
    longest_seconds,
    make_extractor,
    settings_of,
)
from undertone.upstream.hf.find_encoder import CONVOLUTIONS, describe_encoder, find_encoder, find_prefix, inputs_of
from undertone.upstream.hf.limits import check_settings, check_size
from undertone.upstream.hf.pretrained import find_commit, prepare_config, read_model, read_preprocessor, weight_names
from undertone.upstream.hf.upstream import HFUpstream
from undertone.upstream.types import HiddenStates, WaveBatch

SHORTEST = (0.0125, 0.025, 0.05, 0.1, 0.2, 0.4, 1.0)  # s that are tried until the encoder gives a frame


class _Reached(Exception):
    """The first block has been reached; what it would be given."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self.states = states


class EncoderUpstream(HFUpstream):
    """All hidden states of an audio encoder, found by looking at its class, its modules and its feature extractor.

    Each clip goes through the feature extractor alone. Of the types in `MASKED` a batch is padded, as their mask keeps
    padding out exactly; of all others only clips whose features have one shape share a forward, so that nothing is
    padded. Either way no clip depends on what shares its batch. Layer 0 is the input of the first block, layer
    i the output of block i, and the last one the output of the encoder where that has the shape of a layer (after its
    final norm). Where the extractor fills up to a fixed length (30 s for Whisper's kin), the frames beyond the clip are
    dropped. In train mode no layer and no frame is dropped, and batch norms keep their running statistics.

    Attributes:
        pads: whether clips of several lengths share a forward.
        shortest: samples up to which a shorter clip is filled with zeros, so that the encoder gives a frame.
    """

    def __init__(
        self,
        model: PreTrainedModel,  # the encoder alone
        name: str,  # Hub id or folder it came from
        extractor: Any,  # of transformers, see `make_extractor`
        config: PreTrainedConfig,  # of the whole that the encoder is a part of
        *,
        revision: str | None = None,  # what was asked of the Hub
        commit: str | None = None,  # the Hub's commit that was read
    ) -> None:
        kind = TYPES.get(model.config.model_type, EncoderType())
        blocks = kind.blocks(model.config) if kind.blocks is not None else None
        super().__init__(model, name, describe_encoder(model, name, blocks), revision, commit)
        self.kind, self.config, self.extractor = kind, config, extractor
        self.sample_rate, self.max_seconds = extractor.sampling_rate, longest_seconds(extractor)
        self.random_weights = getattr(config, "undertone_random_weights", False)
        self._takes = inputs_of(type(model))
        listed = model.get_submodule(self.family.blocks)
        self._blocks: list[nn.Module] = list(listed) if isinstance(listed, nn.ModuleList) else [listed]
        self._skipped = kind.skipped(model.config)
        self._counts: dict[int, int] = {}  # frames of a clip by its samples
        self._lengths: dict[Any, int] = {}  # frames of an output by the shape of the features
        self._has_last: bool | None = None  # whether the encoder's output is its last layer, where it was asked
        self.pads = model.config.model_type in MASKED
        self.num_layers = len(self._blocks) - self._skipped + 1
        self.shortest, self.hidden_size = self._try()
        self.family = replace(self.family, front_end=tuple(self._front_end()))
        self.eval()

    @classmethod
    def from_pretrained(cls, name: str, revision: str | None, config: PreTrainedConfig) -> EncoderUpstream:
        """Weights and feature extractor of a Hub id or folder whose config has been read."""
        encoder, part = find_encoder(config, name)
        prepare_config(part)
        commit = find_commit(name, revision)
        settings = read_preprocessor(name, commit or revision)
        if "feature_extractor_type" not in settings:
            settings = default_extractor(config, part, name) | settings
        extractor = make_extractor(settings, name)
        with torch.device("meta"):
            wanted = encoder(part).state_dict()
        prefix = find_prefix(weight_names(name, commit or revision), wanted)
        mapping = {"^" + prefix.replace(".", r"\."): ""} if prefix else None
        model = read_model(name, commit or revision, part, encoder, mapping)
        return cls(model, name, extractor, config, revision=revision, commit=commit)

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], num_weights: int | None = None) -> EncoderUpstream:
        """The same architecture with weights of no meaning; only transformers' own classes are made.

        Raises:
            ValueError: the config asks for code from elsewhere, or for more weights than `num_weights`.
        """
        name, given = spec["name"], dict(spec["config"])
        model_type = given.pop("model_type")
        given.pop("auto_map", None)
        check_settings(name, given)
        config = AutoConfig.for_model(model_type, **given)
        encoder, part = find_encoder(config, name)
        prepare_config(part)
        if num_weights is not None:
            check_size(name, encoder, part, num_weights)
        made = make_extractor(spec["extractor"], name)
        settings = {key: spec[key] for key in ("revision", "commit")}
        return cls(encoder(part).float().eval(), name, made, config, **settings)

    # ---- What goes in.

    def _features(self, wave: Tensor) -> tuple[Inputs, Fraction]:
        """(N,) -> what the encoder takes of this clip alone, and how much of it is the clip's own."""
        wave = nn.functional.pad(wave, (0, max(0, self.shortest - len(wave))))
        given = extract_features(self.extractor, wave)
        main = next(key for key in (*self.extractor.model_input_names, *given) if key in given)
        masks = [key for key, mask in given.items() if "mask" in key and mask.shape[-1] in given[main].shape[1:]]
        of_whisper = hasattr(self.extractor, "n_samples")  # it fills every clip up to 30 s
        if masks and given[main].dim() == 3 and not of_whisper and not self.kind.drops_padding:
            _cut(given, main, masks)  # extractors may fill up to a whole frame or two
        mask = given[masks[0]] if masks else None
        share = Fraction(1)
        if mask is not None and not self.kind.drops_padding:
            share = Fraction(int(mask.sum()), max(1, mask.numel()))
        elif mask is None and math.isfinite(self.max_seconds):  # it is filled up to that, and has no mask to say so
            share = Fraction(len(wave), round(self.max_seconds * self.sample_rate))
        inputs = {self._takes[0]: given[main]}
        inputs |= {key: value for key, value in given.items() if key in self._takes and key not in masks}
        target = next((key for key in self._takes if "mask" in key and not key.startswith("output")), None)
        # Whisper and its kin have seen the silence behind each clip; what they call attention_mask is another thing
        if mask is not None and target is not None and not (of_whisper and target == "attention_mask"):
            inputs[target] = mask
        weight = next(self.model.parameters())
        inputs = {
            key: value.to(weight.device, weight.dtype if value.is_floating_point() else None)
            for key, value in self.kind.inputs(inputs, given).items()
        }
        return inputs, share

    # ---- What comes out.

    def forward(self, batch: WaveBatch) -> HiddenStates:
        """(B, N) samples -> (B, L, T, D) hidden states; one forward for all clips whose features have one shape.

        Where `pads`, one forward for all clips.
        """
        self.check_sample_rate(batch)
        self.check_length(batch)
        rows = zip(batch.samples, batch.lengths.tolist(), strict=True)
        clips = [self._features(row[:length]) for row, length in rows]
        groups: dict[Any, list[int]] = {}
        for index, (inputs, _) in enumerate(clips):
            same = index if self.kind.alone else None if self.pads else self._shapes(inputs)
            groups.setdefault(same, []).append(index)
        found: dict[int, Tensor] = {}
        for members in in_groups(groups.values()):
            states = self._states(_together([clips[index][0] for index in members]))  # (G, L, T, D)
            if not self.pads or len(members) == 1:
                self._lengths.setdefault(self._shapes(clips[members[0]][0]), states.shape[2])
            for row, index in zip(states, members, strict=True):
                found[index] = row[:, : self._frames(*clips[index])]
        lengths = torch.tensor([found[index].shape[1] for index in range(len(clips))], device=batch.lengths.device)
        longest = int(lengths.max())
        padded = [nn.functional.pad(found[i], (0, 0, 0, longest - found[i].shape[1])) for i in range(len(clips))]
        return HiddenStates(torch.stack(padded), lengths)  # (B, L, T, D)

    def _states(self, inputs: Inputs) -> Tensor:
        """What the encoder takes of G clips -> (G, L, T, D)."""
        layers, last = self._run(inputs)
        if len(layers) != self.num_layers:
            raise ValueError(
                f"{self.name!r} gave {len(layers)} hidden states, expected {self.num_layers}; this version of "
                f"transformers is not supported with this model."
            )
        states = [self.kind.frames(self.model, layer) for layer in layers]
        if last is not None and self._is_layer(last, layers[-1]):
            states[-1] = self.kind.frames(self.model, last)
        elif last is not None and self._is_layer(last, states[-1]):  # without the tokens of the whole
            states[-1] = last
        return torch.stack(states, 1)

    def _run(self, inputs: Inputs) -> tuple[list[Tensor], Tensor | None]:
        """Layer 0, the outputs of the blocks, and the output of the encoder."""
        layers: list[Tensor] = []
        with self._recording(layers):
            output = self.model(**inputs)
        return layers, getattr(output, "last_hidden_state", None)

    def _is_layer(self, last: Tensor, layer: Tensor) -> bool:
        """Whether the encoder's output is the last layer, normed; pooled ones look so too where there is one frame."""
        if last.shape != layer.shape or layer.shape[1] > 1:
            return last.shape == layer.shape
        if self._has_last is None:
            with self._evaluating():
                layers, output = self._run(self._features(_noise(self.sample_rate))[0])
            self._has_last = output is not None and output.shape[1] in (
                layers[-1].shape[1],
                self.kind.frames(self.model, layers[-1]).shape[1],
            )
        return self._has_last

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """While it lasts: no gradients, and no dropout, which would draw random numbers."""
        training = [module for module in self.model.modules() if module.training]
        self.model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            for module in training:
                module.training = True

    @contextmanager
    def _recording(self, layers: list[Tensor]) -> Iterator[None]:
        """While it lasts, the input of the first block and the output of every block are put into `layers`."""

        def after(block: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            layers.append(_output(output))

        hooks = [self._at_layer_0(layers.append)]
        hooks += [block.register_forward_hook(after) for block in self._blocks[self._skipped :]]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _at_layer_0(self, take: Callable[[Tensor], None]) -> RemovableHandle:
        """Call `take` with layer 0 in each forward: the input of the first block that is none of the skipped ones."""

        def before(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            take(_output(args if args else kwargs.get("hidden_states", tuple(kwargs.values()))))

        def after(block: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            take(_output(output))

        if self._skipped:
            return self._blocks[self._skipped - 1].register_forward_hook(after)
        return self._blocks[0].register_forward_pre_hook(before, with_kwargs=True)

    # ---- How many frames: what comes before layer 0 is run, and its output counted, once for each shape of features.

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """(B,) int64 samples -> (B,) int64 frames, one at least; each number of samples is asked of the model once."""
        for length in set(lengths.tolist()) - self._counts.keys():
            self._counts[length] = self._frames(*self._features(_noise(length)))
        return torch.tensor([self._counts[length] for length in lengths.tolist()], device=lengths.device)

    def _frames(self, inputs: Inputs, share: Fraction) -> int:
        """Of one clip alone, the frames that it reaches."""
        shapes = self._shapes(inputs)
        if shapes not in self._lengths:
            self._lengths[shapes] = self._layer_0(inputs).shape[1]
        return max(1, math.ceil(self._lengths[shapes] * share))

    def _shapes(self, inputs: Inputs) -> tuple[Any, ...]:
        """What the number of frames depends on: shapes, and where padding is dropped, how much of it there is."""
        masks = [int(value.sum()) for key, value in inputs.items() if "mask" in key and self.kind.drops_padding]
        return (*(value.shape for value in inputs.values()), *masks)

    def _layer_0(self, inputs: Inputs) -> Tensor:
        """Of one clip, (1, T, D) before the first block; the blocks are not run."""

        def stop(states: Tensor) -> None:
            raise _Reached(states)

        hook = self._at_layer_0(stop)
        try:
            with self._evaluating():
                self.model(**inputs)
        except _Reached as reached:
            return self.kind.frames(self.model, reached.states)
        finally:
            hook.remove()
        raise ValueError(f"{self.name!r} is a {self.model.config.model_type!r} model that does not run its own blocks.")

    def _try(self) -> tuple[int, int]:
        """The samples of the shortest clip that gives a frame, and the size of its frames."""
        reason: Exception | None = None
        for seconds in SHORTEST:
            self.shortest = round(min(seconds, self.max_seconds) * self.sample_rate)
            try:
                with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
                    inputs, own = self._features(_noise(self.shortest))
                    states = self._layer_0(inputs)
            except Exception as error:  # whatever a convolution or an extractor says of too few samples
                reason = error
                continue
            numbers = [value for value in inputs.values() if value.is_floating_point()]
            if own and states.shape[1] and all(value.isfinite().all() for value in numbers):
                return self.shortest, states.shape[2]
        raise ValueError(
            f"{self.name!r} gives no hidden states of a second of audio"
            + (f": {' '.join(str(reason).split()):.200}" if reason else "")
            + ". Its config.json and preprocessor_config.json do not belong together, or its type is not supported."
        ) from reason

    def _front_end(self) -> Iterator[str]:
        """Of the modules with convolutions beside the blocks, those that run before layer 0."""
        ran: set[nn.Module] = set()
        hooks = [
            layer.register_forward_hook(lambda layer, args, output: ran.add(layer))
            for layer in self.model.modules()
            if isinstance(layer, CONVOLUTIONS)
        ]
        self._layer_0(self._features(_noise(self.shortest))[0])
        for hook in hooks:
            hook.remove()
        for name in self.family.front_end:
            if any(layer in ran for layer in self.model.get_submodule(name).modules()):
                yield name

    # ---- The contract of every upstream.

    def train(self, mode: bool = True) -> EncoderUpstream:
        """Train mode, in which batch norms keep the statistics of pretraining."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def settings(self) -> dict[str, Any]:
        """The feature extractor's settings and its sample rate in Hz."""
        return {"extractor": settings_of(self.extractor), "sample_rate": self.sample_rate}

    def spec(self) -> dict[str, Any]:
        """JSON that `build_upstream` rebuilds this upstream from, without its weights."""
        return self._spec(self.config)


def _output(states: Any) -> Tensor:
    """Hidden states, or a tuple that begins with them, (T, D) of one clip or (B, X, D) -> (B, X, D)."""
    first: Tensor = states if isinstance(states, Tensor) else states[0]
    return first[None] if first.dim() == 2 else first


def _cut(given: Inputs, main: str, masks: list[str]) -> None:
    """Leave the clip's own frames of its features (1, T, F) or (1, F, T) and of their masks (1, T), in place."""
    mask = given[masks[0]]
    own, axis = int(mask.sum()), list(given[main].shape).index(mask.shape[-1], 1)
    given[main] = given[main].narrow(axis, 0, own)
    given |= {key: given[key][:, :own] for key in masks}


def _noise(num_samples: int) -> Tensor:
    return 0.1 * torch.randn(num_samples, generator=torch.Generator().manual_seed(0))


def _together(clips: list[Inputs]) -> Inputs:
    """What an encoder is given of several clips, each filled up with zeros to the shape of the largest."""
    if len(clips) == 1:
        return clips[0]
    batch = {}
    for key in clips[0]:
        values = [clip[key] for clip in clips]
        shape = [max(sizes) for sizes in zip(*(value.shape for value in values), strict=True)]
        padding = [
            [x for have, want in zip(value.shape[::-1], shape[::-1], strict=True) for x in (0, want - have)]
            for value in values
        ]
        batch[key] = torch.cat([nn.functional.pad(value, pad) for value, pad in zip(values, padding, strict=True)])
    return batch
