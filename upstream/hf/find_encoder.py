"""The audio encoder that a config of transformers describes, alone or as a part, and the names of what is in it."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from undertone.upstream.hf.families import FAMILIES, Family

# ---- The class: the one of the config's own module whose forward takes audio and nothing that goes with a decoder.

# The first argument of such a forward; `hidden_states` are features where the class says that its input is audio.
AUDIO = ("input_values", "input_features", "audio_mel", "hidden_states")
# What a forward of text, of a decoder, of a vocoder, of video or with a loss takes beside them.
MORE_THAN_AUDIO = {
    "audio_codes", "condition_vector", "decoder_input_ids", "decoder_input_values", "encoder_hidden_states",
    "input_ids", "labels", "n_quantizers", "noise_sequence", "pixel_values_videos",
}  # fmt: skip
# One that runs two encoders side by side; the first of them is found as a part.
COMBINED = ("Nemotron3_5TranscribeAudioModel",)
PARTS = re.compile("audio|speech|encoder|codec|thinker|asr")  # a config's parts that are looked into first


def find_encoder(config: PreTrainedConfig, name: str) -> tuple[type[PreTrainedModel], PreTrainedConfig]:
    """The class and the config of the audio encoder of the model `name`: the whole of it, or a part.

    Raises:
        ValueError: no part of it takes audio and nothing else.
    """
    found = _within(config)
    if found is None:
        raise ValueError(
            f"{name!r} is a {config.model_type!r} model, not a speech upstream: none of its parts takes audio alone "
            f"and gives hidden states. Give a speech model, such as one of the types {', '.join(sorted(FAMILIES))}."
        )
    return found


def _within(config: PreTrainedConfig) -> tuple[type[PreTrainedModel], PreTrainedConfig] | None:
    half = getattr(config, "encoder_config", None)  # Mimi's is a property
    if isinstance(half, PreTrainedConfig) and (found := _within(half)) is not None:
        return found
    if (encoder := encoder_class(type(config))) is not None:
        return encoder, config
    parts = {key: part for key, part in vars(config).items() if isinstance(part, PreTrainedConfig)}
    names = sorted(parts, key=lambda key: PARTS.search(key) is None)
    return next((found for key in names if (found := _within(parts[key])) is not None), None)


def encoder_class(config_class: type[PreTrainedConfig]) -> type[PreTrainedModel] | None:
    """The class of transformers that makes an audio encoder of exactly such a config, or None."""
    package, _, module = config_class.__module__.rpartition(".")
    if not package.startswith("transformers.models.") or not module.startswith("configuration_"):
        return None
    if config_class.model_type in ("dac", "encodec"):
        from undertone.upstream.hf.codecs import CODECS  # here, as it imports both models

        return CODECS[config_class.model_type]
    try:
        modeling = import_module(f"{package}.{module.replace('configuration_', 'modeling_', 1)}")
    except ModuleNotFoundError:  # a config alone
        return None
    classes = [
        found
        for found in vars(modeling).values()
        if inspect.isclass(found)
        and issubclass(found, PreTrainedModel)
        and found.__module__ == modeling.__name__
        and found.config_class is config_class
        and _takes_audio_alone(found)
    ]
    return min(classes, key=lambda found: AUDIO.index(inputs_of(found)[0]), default=None)


def inputs_of(model_class: type[PreTrainedModel]) -> list[str]:
    """The names of what its forward takes."""
    return list(inspect.signature(model_class.forward).parameters)[1:]


def _takes_audio_alone(model_class: type[PreTrainedModel]) -> bool:
    names = inputs_of(model_class)
    if model_class.__name__ in COMBINED or "Decoder" in model_class.__name__:
        return False
    if not names or names[0] not in AUDIO or not {*MORE_THAN_AUDIO, *AUDIO}.isdisjoint(names[1:]):
        return False
    of_audio = model_class.input_modalities == "audio" or model_class.main_input_name in AUDIO[:3]
    return names[0] != "hidden_states" or of_audio


# ---- Its parts: the list of blocks, what convolves before them, and the projections that LoRA adapts.

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
ATTENTION = re.compile(r"(to_|linear_|w)?(q|v|query|value|qkv|kv|in)(_proj)?$")


def describe_encoder(model: PreTrainedModel, name: str, blocks: str | None = None) -> Family:
    """The names of its parts, found by looking at it.

    Args:
        model: the encoder; on torch's device `meta` will do.
        name: for the error message.
        blocks: dotted name of the list of blocks, where it is not the one that transformers takes hidden states from.

    Raises:
        ValueError: there is no list of blocks in it.
    """
    blocks = _find_blocks(model) if blocks is None else blocks
    if blocks is None:
        raise ValueError(
            f"{name!r} is a {model.config.model_type!r} model whose encoder is no list of blocks, so that it has no "
            f"layers to give. Wrap it in a class of your own: undertone new upstream my_upstream."
        )
    linear = [path for path, layer in model.get_submodule(blocks).named_modules() if isinstance(layer, nn.Linear)]
    attention = [path for path in linear if any(ATTENTION.match(step) for step in path.split("."))]
    adapted = tuple(f"{blocks}.{path}" for path in attention or linear)  # whole names: an adapter may have such, too
    return Family(normalizes=None, front_end=tuple(_before(model, blocks)), blocks=blocks, lora_targets=adapted)


def _find_blocks(model: PreTrainedModel) -> str | None:
    """The largest list of modules; of those that transformers takes hidden states from, if it says so."""
    lists = {path: part for path, part in model.named_modules() if isinstance(part, nn.ModuleList) and len(part)}
    recorded: Any = (model._can_record_outputs or {}).get("hidden_states", ())
    kinds: Any = tuple(
        getattr(one, "target_class", one) for one in (recorded if isinstance(recorded, (list, tuple)) else (recorded,))
    )
    named = {path: part for path, part in lists.items() if any(isinstance(block, kinds) for block in part)}
    sizes = {path: sum(weight.numel() for weight in part.parameters()) for path, part in (named or lists).items()}
    return max(sizes, key=lambda path: sizes[path], default=None)


def _before(model: nn.Module, blocks: str) -> Iterator[str]:
    """The modules beside the blocks, and beside what holds them, that have convolutions."""
    path, module = "", model
    for step in blocks.split("."):
        for child, part in module.named_children():
            if child != step and any(isinstance(layer, CONVOLUTIONS) for layer in part.modules()):
                yield f"{path}{child}"
        path, module = f"{path}{step}.", module.get_submodule(step)


# ---- Where its weights are in a checkpoint.


def find_prefix(weights: Iterable[str], wanted: Iterable[str]) -> str:
    """What stands before the names of an encoder's weights in a checkpoint: that of most of them, the shortest first.

    >>> find_prefix(["model.audio_tower.conv1.bias", "model.text.conv2.bias"], ["conv1.bias"])
    'model.audio_tower.'
    """
    known, votes = set(wanted), Counter[str]()
    for weight in weights:
        parts = weight.split(".")
        votes.update(".".join([*parts[:start], ""]) for start in range(len(parts)) if ".".join(parts[start:]) in known)
    return min(votes, key=lambda prefix: (-votes[prefix], len(prefix)), default="")
