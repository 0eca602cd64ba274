"""Write models of true geometry with random weights: the baseline beside every pretrained upstream, and tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel

from undertone.common.discovery import nearest
from undertone.upstream.hf.extractor import family_extractor
from undertone.upstream.hf.families import FAMILIES
from undertone.upstream.hf.pretrained import quiet_transformers
from undertone.upstream.hf.video import PICTURES

_TINY = {
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
_TINY_DATA2VEC = {key: value for key, value in _TINY.items() if key != "num_conv_pos_embeddings"}
_TINY_SEW = {key: value for key, value in _TINY.items() if key != "conv_dim"} | {"conv_dim": [16] * 13}
_TINY_WHISPER = {
    "d_model": 32,
    "encoder_layers": 2,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_layers": 1,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 64,
    "vocab_size": 16,
    **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 0),
}
_LAYER_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
_TINY_BERT = {key: value for key, value in _TINY.items() if "conv" not in key}
_LARGE = {"num_hidden_layers": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16}
_SMALL_RESNET = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 64], "depths": [1, 1, 1, 1], "layer_type": "basic"}
_WHISPER_BASE = {
    "d_model": 512,
    "encoder_layers": 6,
    "encoder_attention_heads": 8,
    "encoder_ffn_dim": 2048,
    "decoder_layers": 6,
    "decoder_attention_heads": 8,
    "decoder_ffn_dim": 2048,
}

# transformers' defaults are the base geometry of each family; kernels and strides are everywhere the true ones.
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "wav2vec2-base": ("wav2vec2", {}),
    "wav2vec2-large": ("wav2vec2", _LARGE),
    "wav2vec2-xls-r-300m": ("wav2vec2", _LARGE | _LAYER_NORM),
    "hubert-base": ("hubert", {}),
    "hubert-large": ("hubert", _LARGE | _LAYER_NORM),
    "wavlm-base": ("wavlm", {}),
    "wavlm-large": ("wavlm", _LARGE | _LAYER_NORM | {"conv_bias": False}),
    "data2vec-base": ("data2vec-audio", {}),
    "unispeech-sat-base": ("unispeech-sat", {}),
    "wav2vec2-conformer-large": ("wav2vec2-conformer", _LARGE | {"feat_extract_norm": "layer", "conv_bias": True}),
    "w2v-bert-2.0": ("wav2vec2-bert", {}),
    "whisper-tiny": ("whisper", {}),
    "whisper-base": ("whisper", _WHISPER_BASE),
    "tiny-wav2vec2": ("wav2vec2", _TINY),
    "tiny-wav2vec2-layer": ("wav2vec2", _TINY | _LAYER_NORM | {"num_hidden_layers": 3}),
    "tiny-hubert": ("hubert", _TINY),
    "tiny-hubert-batch": ("hubert", _TINY | {"conv_pos_batch_norm": True}),
    "tiny-wavlm": ("wavlm", _TINY),
    "tiny-wavlm-layer": ("wavlm", _TINY | _LAYER_NORM),
    "tiny-data2vec": ("data2vec-audio", _TINY_DATA2VEC),
    "tiny-unispeech": ("unispeech", _TINY),
    "tiny-unispeech-sat": ("unispeech-sat", _TINY),
    "tiny-unispeech-sat-layer": ("unispeech-sat", _TINY | _LAYER_NORM),
    "tiny-sew": ("sew", _TINY_SEW),
    "tiny-sew-d": ("sew-d", _TINY_SEW | {"initializer_range": 0.2}),  # at 0.02 its layer norms magnify rounding
    "tiny-conformer": ("wav2vec2-conformer", _TINY),
    "tiny-conformer-rotary": ("wav2vec2-conformer", _TINY | {"position_embeddings_type": "rotary"}),
    "tiny-w2v-bert": ("wav2vec2-bert", _TINY_BERT),
    "tiny-lasr": ("lasr_encoder", _TINY_BERT | {"subsampling_conv_channels": 16}),
    "tiny-whisper": ("whisper", _TINY_WHISPER),
    "resnet-50": (PICTURES, {}),
    "small-resnet": (PICTURES, _SMALL_RESNET),
}


def save_random(architecture: str, folder: Path | str, seed: int = 0) -> Path:
    """Write config.json (flagged `undertone_random_weights`), model.safetensors, for sound preprocessor_config.json.

    Args:
        architecture: a key of `ARCHITECTURES`.
        folder: where to; made if missing.
        seed: of the weights; the global generator is left as it was.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"Unknown architecture {architecture!r}.{nearest(architecture, ARCHITECTURES)}")
    model_type, overrides = ARCHITECTURES[architecture]
    config = AutoConfig.for_model(model_type, undertone_random_weights=True, **overrides)
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        AutoModel.from_config(config).save_pretrained(folder)
    if model_type == PICTURES:  # which are not read from the settings of an extractor
        return Path(folder)
    normalizes = FAMILIES[model_type].normalizes
    family_extractor(config, normalizes is not None and normalizes(config)).save_pretrained(folder)
    return Path(folder)
