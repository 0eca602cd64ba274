"""The speech families of transformers that `HFUpstream` knows, by the config's `model_type`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import PreTrainedConfig

from undertone.discovery import nearest


def _convolution_frames(model: Any, lengths: Tensor) -> Tensor:
    return model._get_feat_extract_output_lengths(lengths)


@dataclass(frozen=True)
class Family:
    """What an upstream of one `model_type` needs to be told.

    Attributes:
        normalizes: whether its models expect each utterance at zero mean and unit variance, for a checkpoint that has
            no preprocessor_config.json to say so.
        frame_lengths: (model, (B,) samples) -> (B,) frames of its hidden states, as the model itself counts them.
    """

    normalizes: Callable[[PreTrainedConfig], bool]
    frame_lengths: Callable[[Any, Tensor], Tensor] = _convolution_frames


FAMILIES = {
    # Wav2Vec2FeatureExtractor's own default; facebook/wav2vec2-* and facebook/hubert-* say the same.
    "wav2vec2": Family(normalizes=lambda config: True),
    "hubert": Family(normalizes=lambda config: True),
    # WavLM base and base+ (group norm) were trained on samples as read, large (layer norm) on normalised ones.
    "wavlm": Family(normalizes=lambda config: config.feat_extract_norm == "layer"),
}


def find_family(model_type: str, name: str) -> Family:
    """The family of the upstream `name`, whose config says `model_type`.

    Raises:
        ValueError: it is none of `FAMILIES`: a text or image model, or an unknown kind of speech model.
    """
    if model_type not in FAMILIES:
        raise ValueError(
            f"{name!r} is a {model_type!r} model, not a speech upstream of a known family."
            f"{nearest(model_type, FAMILIES)}"
        )
    return FAMILIES[model_type]
