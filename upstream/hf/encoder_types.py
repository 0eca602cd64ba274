"""What the encoders of a few types do differently from all others; a type that is not here needs nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class EncoderType:
    """How one type differs."""

    # config -> dotted name of the list of blocks, or of a whole that is taken for one block, where it is not the list
    # that transformers takes hidden states from
    blocks: Callable[[Any], str] | None = None
    # config -> how many blocks come before layer 0, because their outputs have another shape than all later ones
    skipped: Callable[[Any], int] = lambda config: 0
    # (what the encoder would be given, all that the feature extractor gave) -> what the encoder is given
    inputs: Callable[[Inputs, Inputs], Inputs] = lambda inputs, given: inputs
    # (model, (B, X, D) or (B, D, T) of a block) -> (B, T, D), one vector a frame
    frames: Callable[[Any, Tensor], Tensor] = lambda model, states: states
    alone: bool = False  # it takes one clip at a time
    drops_padding: bool = False  # its blocks see the clip's own frames only


# ---- Pictures of sound: a grid of patches, whose vectors of one time are averaged over frequency.


def _ast_frames(model: Any, states: Tensor) -> Tensor:
    """(B, 2 + F * T, D), two tokens of the whole first -> (B, T, D)."""
    config = model.config
    bands = (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1
    return states[:, 2:].unflatten(1, (bands, -1)).mean(1)


def _clap_frames(model: Any, states: Tensor) -> Tensor:
    """(B, H * W, D) of the last stage, whose picture is the clip in as many pieces as go on top of each other."""
    config, side = model.config, math.isqrt(states.shape[1])
    pieces = config.spec_size // config.num_mel_bins
    return states.unflatten(1, (pieces, side // pieces, side)).mean(2).flatten(1, 2)


# ---- Codecs without a Transformer: what the quantiser would be given is the one layer.


def _codec(module: str) -> EncoderType:
    return EncoderType(
        blocks=lambda config: module, skipped=lambda config: 1, frames=lambda model, states: states.transpose(1, 2)
    )


# ---- Inputs that are called something else, or are of one clip only.


def _other_way_around(inputs: Inputs, given: Inputs) -> Inputs:
    return inputs | {"audio_mel_mask": ~given["input_features_mask"].bool()}  # Gemma 3n: True is padding


def _all_valid(inputs: Inputs, given: Inputs) -> Inputs:
    return {"mask": torch.ones(inputs["hidden_states"].shape[:2], dtype=torch.bool)} | inputs


def _own_features(inputs: Inputs, given: Inputs) -> Inputs:
    own = given["attention_mask"][0].bool()  # Qwen's encoders cut (M, frames) into chunks themselves
    return {"input_features": given["input_features"][0][:, own], "feature_lens": own.sum()[None]}


def _own_keys(inputs: Inputs, given: Inputs) -> Inputs:
    """Qwen2-Audio attends to the clip's own frames of the 30 s; its layers take the mask as it is added to scores."""
    total, own = given["input_features"].shape[2] // 2, (int(given["attention_mask"].sum()) - 1) // 2 + 1
    scores = torch.zeros(1, 1, 1, total)
    scores[..., own:] = torch.finfo(scores.dtype).min
    return inputs | {"attention_mask": scores}


def _normed(inputs: Inputs, given: Inputs) -> Inputs:
    """The whole that holds this encoder normalises each mel band over the clip before it."""
    from transformers.models.nemotron3_5_transcribe.modeling_nemotron3_5_transcribe import normalize_per_feature

    features = normalize_per_feature(inputs["input_features"], inputs["attention_mask"])
    return inputs | {"input_features": features}


def _whole_pieces(inputs: Inputs, given: Inputs) -> Inputs:
    """Moonshine's streaming encoder takes samples in pieces of 80, the last one filled up with zeros."""
    missing = -inputs["input_values"].shape[1] % 80
    return {key: torch.nn.functional.pad(value, (0, missing)) for key, value in inputs.items()}


TYPES: dict[str, EncoderType] = {
    "audio-spectrogram-transformer": EncoderType(frames=_ast_frames),
    "clap_audio_model": EncoderType(
        blocks=lambda config: f"audio_encoder.layers.{len(config.depths) - 1}.blocks", frames=_clap_frames
    ),
    "dac": _codec("encoder"),
    "encodec": _codec("encoder"),
    "vibevoice_acoustic_tokenizer": _codec("head"),
    "vibevoice_acoustic_tokenizer_encoder": _codec("head"),
    "fun_asr_nano_encoder": EncoderType(skipped=lambda config: 1),  # the first block is given filterbanks
    "gemma3n_audio": EncoderType(inputs=_other_way_around),
    "granite_speech5_encoder": EncoderType(skipped=lambda config: max(config.subsample_layers, default=-1) + 1),
    "moonshine_streaming_encoder": EncoderType(inputs=_whole_pieces),
    "muse_spark_audio": EncoderType(blocks=lambda config: f"layers.{config.num_hidden_layers - 1}.conv_blocks"),
    "nemotron3_5_transcribe_asr_audio": EncoderType(inputs=_normed),
    "pe_audio_encoder": EncoderType(frames=lambda model, states: states[:, 1:]),  # a token of the whole comes first
    "phi4_multimodal_audio": EncoderType(inputs=_all_valid),
    "qwen2_audio_encoder": EncoderType(inputs=_own_keys),
    "qwen2_5_omni_audio_encoder": EncoderType(inputs=_own_features, alone=True, drops_padding=True),
    "qwen3_omni_moe_audio_encoder": EncoderType(inputs=_own_features, alone=True, drops_padding=True),
    "qwen3_asr_encoder": EncoderType(alone=True, drops_padding=True),
}

# Types whose own mask keeps padding out of every layer, to 1e-5, so that clips of several lengths share a forward.
MASKED = {
    "fun_asr_nano_encoder",
    "gemma4_audio",
    "granite_speech5_encoder",
    "lasr_encoder",  # of a whole `lasr_ctc`; one alone is a family
    "nemotron3_5_transcribe_asr_audio",
    "nemotron3_diarization_audio",
    "nemotron_asr_streaming_encoder",
    "parakeet_encoder",
    "seamless_m4t",
    "seamless_m4t_v2",
}
