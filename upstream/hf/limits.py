"""What a config.json of unknown origin may not ask for: code from elsewhere, or more memory than its weights fill."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

ATTENTION = (None, "eager", "sdpa")  # another name may be a repository of compiled code, which transformers would run
FOREIGN = ("quantization_config",)  # chooses classes that read weights in ways of their own
CONVOLUTIONS = ("conv_dim", "conv_kernel", "conv_stride")
MOST_LAYERS = 1000
SAMPLE_RATES = (1_000, 768_000)  # Hz


def check_settings(name: str, settings: Mapping[str, Any]) -> None:
    """Refuse settings of an upstream's config by which transformers would run code from elsewhere, or not end."""
    wrong = ", ".join(f"{key}={value!r}" for key, value in _all_settings(settings) if not _is_allowed(key, value))
    if wrong:
        raise ValueError(
            f"The config of upstream {name!r} has {wrong:.200}, which is not allowed: it runs code from elsewhere, "
            f"or makes no model. Remove it from its config.json if you trust the weights."
        )


def _all_settings(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Of a config and of the configs of its parts."""
    for key, value in settings.items():
        yield str(key), value
        if isinstance(value, Mapping):
            yield from _all_settings(value)


def _is_allowed(key: str, value: Any) -> bool:
    if key.endswith("attn_implementation"):
        return value in ATTENTION
    if key in CONVOLUTIONS and isinstance(value, (list, tuple)):
        return all(isinstance(item, int) and item > 0 for item in value)
    return key not in FOREIGN and not ("layers" in key and isinstance(value, int) and value > MOST_LAYERS)


def check_sample_rate(name: str, sample_rate: object) -> int:
    """The sample rate in Hz of a config, refused if it is none."""
    low, high = SAMPLE_RATES
    if not isinstance(sample_rate, int) or not low <= sample_rate <= high:
        raise ValueError(
            f"{name!r} asks for audio at {sample_rate!r} Hz; expected {low} to {high} Hz. "
            f"Download or save the model again."
        )
    return sample_rate


def check_size(name: str, model_class: type[PreTrainedModel], config: PreTrainedConfig, num_weights: int) -> None:
    """Refuse an architecture of more weights than there are, before any memory is taken for them."""
    with torch.device("meta"):
        refuse_larger(name, model_class(config), num_weights)


def refuse_larger(name: str, module: nn.Module, num_weights: int) -> None:
    """Refuse a module, made on torch's device `meta`, of more weights than there are."""
    wanted = sum(weight.numel() for weight in module.parameters())
    if wanted > num_weights:
        raise ValueError(
            f"The config of {name!r} describes {wanted:,} weights, its file holds {num_weights:,}. "
            f"Download or save the model again."
        )


def count_weights(path: Path) -> int:
    """The numbers in a safetensors file, by its header, which safetensors has checked against the file's size."""
    with safe_open(path, framework="pt") as file:
        return sum(torch.Size(file.get_slice(name).get_shape()).numel() for name in file.keys())  # noqa: SIM118


@contextmanager
def as_sentence(what: str, way_out: str = "Download or save the model again.") -> Iterator[None]:
    """Turn whatever settings from elsewhere make transformers, torch, PEFT or a class raise into one `ValueError`.

    Args:
        what: the beginning of the sentence, such as `The settings in config.json make no model`.
        way_out: its end.
    """
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split()).rstrip(".")
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ValueError(f"{what}: {kind}{reason}. {way_out}") from error
