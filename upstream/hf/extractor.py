"""transformers' own feature extractors: read, made again from their settings, and called with one clip."""

from __future__ import annotations

import inspect
import json
import logging
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import (
    FeatureExtractionMixin,
    LasrFeatureExtractor,
    PreTrainedConfig,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)
from transformers.models.auto.auto_mappings import FEATURE_EXTRACTOR_MAPPING_NAMES as OWN_EXTRACTORS
from transformers.models.auto.configuration_auto import model_type_to_module_name
from transformers.models.auto.feature_extraction_auto import (
    MISSING_FEATURE_EXTRACTOR_MAPPING_NAMES,
    feature_extractor_class_from_name,
)

from undertone.upstream.hf.families import FAMILIES
from undertone.upstream.hf.limits import as_sentence, check_sample_rate

logger = logging.getLogger(__name__)
MOST = 10_000_000  # in a number of a feature extractor's settings; the samples of 60 s at 48 kHz are 3,000,000
MOST_BANDS, MOST_FFT = 1024, 65_536


def default_extractor(config: PreTrainedConfig, encoder: PreTrainedConfig, name: str) -> dict[str, Any]:
    """The settings of the feature extractor that transformers gives such models, and a warning that they are taken."""
    known = {**OWN_EXTRACTORS, **MISSING_FEATURE_EXTRACTOR_MAPPING_NAMES}
    package = model_type_to_module_name(encoder.model_type)
    types = [config.model_type, encoder.model_type]
    types += [model_type for model_type in known if model_type_to_module_name(model_type) == package]
    kind = next((known[model_type] for model_type in types if model_type in known), None)
    if kind is None:
        raise ValueError(
            f"{name!r} holds no preprocessor_config.json, and transformers has no feature extractor for a "
            f"{config.model_type!r} model. Download or save the model again, with its feature extractor."
        )
    logger.warning("%s has no preprocessor_config.json: taking the defaults of %s.", name, kind)
    bands = getattr(encoder, "num_mel_bins", None)
    takes_bands = "feature_size" in inspect.signature(feature_extractor_class_from_name(kind).__init__).parameters
    return {"feature_extractor_type": kind} | ({"feature_size": bands} if bands and takes_bands else {})


def make_extractor(settings: Mapping[str, Any], name: str) -> Any:
    """The feature extractor of transformers that `settings` describe; never a class from elsewhere."""
    kind = settings.get("feature_extractor_type")
    made_by: Any = feature_extractor_class_from_name(kind) if isinstance(kind, str) else None
    ours = inspect.isclass(made_by) and issubclass(made_by, FeatureExtractionMixin)
    if not ours or not made_by.__module__.startswith("transformers."):
        raise ValueError(
            f"The preprocessor_config.json of {name!r} names the feature extractor {kind!r}, which is none of "
            f"transformers. Save the model again with one of transformers' own."
        )
    large = {key: value for key, value in settings.items() if _is_large(key, value)}
    if large:
        raise ValueError(
            f"The preprocessor_config.json of {name!r} says {large}, which no speech model asks for. "
            f"Download or save the model again."
        )
    given = {key: value for key, value in settings.items() if key not in ("auto_map", "processor_class")}
    with as_sentence(f"The preprocessor_config.json of {name!r} makes no {kind}"):
        extractor = made_by(**given)
        check_sample_rate(name, extractor.sampling_rate)
    return extractor


def family_extractor(config: PreTrainedConfig, do_normalize: bool, sample_rate: int = 16_000) -> FeatureExtractionMixin:
    """That of transformers which gives what a family's model is fed with here, to be saved beside it."""
    if FAMILIES[config.model_type].waveform:
        return Wav2Vec2FeatureExtractor(
            sampling_rate=sample_rate, do_normalize=do_normalize, return_attention_mask=True
        )
    if config.model_type == "whisper":
        return WhisperFeatureExtractor(feature_size=config.num_mel_bins)
    if config.model_type == "lasr_encoder":
        return LasrFeatureExtractor(feature_size=config.num_mel_bins, return_attention_mask=True)
    return SeamlessM4TFeatureExtractor()


def _is_large(key: str, value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    most = MOST_BANDS if key in ("feature_size", "num_mel_bins", "n_mels") else MOST_FFT if "fft" in key else MOST
    return abs(value) > most


def settings_of(extractor: Any) -> dict[str, Any]:
    """JSON that `make_extractor` makes the same one from."""
    settings: dict[str, Any] = json.loads(extractor.to_json_string())
    return settings


def longest_seconds(extractor: Any) -> float:
    """The longest clip that it does not cut without a word: Whisper's 30 s, AST's 10.24 s; infinite for most."""
    rate, call = extractor.sampling_rate, inspect.signature(type(extractor).__call__).parameters
    if hasattr(extractor, "nb_max_samples"):  # CLAP
        return float(extractor.nb_max_samples / rate)
    if "truncation" in call and call["truncation"].default is True:
        samples = getattr(extractor, "n_samples", call["max_length"].default if "max_length" in call else None)
        if samples is not None:
            return float(samples / rate)
    if hasattr(extractor, "num_mel_bins") and isinstance(getattr(extractor, "max_length", None), int):
        return float(extractor.max_length * 0.01 + 0.015)  # AST: frames of 25 ms, every 10 ms
    return math.inf


def extract_features(extractor: Any, wave: Tensor) -> dict[str, Tensor]:
    """(N,) samples -> what the extractor gives for this clip alone, each (1, ...), with a mask where it makes one."""
    takes = inspect.signature(type(extractor).__call__).parameters
    wanted = {"sampling_rate": extractor.sampling_rate, "return_tensors": "pt", "return_attention_mask": True}
    if "padding" in takes and takes["padding"].default in (None, False) and not hasattr(extractor, "nb_max_samples"):
        wanted["padding"] = True  # of one clip: what some take for a request of a mask
    given = extractor([wave.detach().float().cpu().numpy()], **{key: wanted[key] for key in wanted if key in takes})
    return {key: torch.as_tensor(value) for key, value in given.items() if value is not None}
