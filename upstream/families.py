"""The speech families of transformers that `HFUpstream` knows, by the config's `model_type`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from transformers import PreTrainedConfig

from undertone.discovery import nearest


@dataclass(frozen=True)
class Family:
    """What an upstream of one `model_type` needs to be told.

    Attributes:
        normalizes: whether its models expect each utterance at zero mean and unit variance, for a checkpoint that has
            no preprocessor_config.json to say so.
    """

    normalizes: Callable[[PreTrainedConfig], bool]


FAMILIES = {
    # Wav2Vec2FeatureExtractor's own default; facebook/wav2vec2-* and facebook/hubert-* say the same.
    "wav2vec2": Family(normalizes=lambda config: True),
    "hubert": Family(normalizes=lambda config: True),
    # WavLM base and base+ (group norm) were trained on samples as read, large (layer norm) on normalised ones.
    "wavlm": Family(normalizes=lambda config: config.feat_extract_norm == "layer"),
}


def find_family(config: PreTrainedConfig, name: str) -> Family:
    """The family of a config.

    Raises:
        ValueError: its `model_type` is none of `FAMILIES`: a text or image model, or an unknown kind of speech model.
    """
    if config.model_type not in FAMILIES:
        raise ValueError(
            f"{name!r} is a {config.model_type!r} model, not a speech upstream of a known family."
            f"{nearest(config.model_type, FAMILIES)}"
        )
    return FAMILIES[config.model_type]
