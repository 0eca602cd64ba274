"""Write models of true geometry with random weights: the baseline beside every pretrained upstream, and tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, Wav2Vec2FeatureExtractor

from undertone.discovery import nearest
from undertone.upstream.families import find_family
from undertone.upstream.quiet import quiet_transformers

_TINY = {
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
_LAYER_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
_LARGE = {"num_hidden_layers": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16}

# transformers' defaults are the base geometry of each family; kernels and strides are everywhere the true ones.
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "wav2vec2-base": ("wav2vec2", {}),
    "wav2vec2-large": ("wav2vec2", _LARGE),
    "wav2vec2-xls-r-300m": ("wav2vec2", _LARGE | _LAYER_NORM),
    "hubert-base": ("hubert", {}),
    "hubert-large": ("hubert", _LARGE | _LAYER_NORM),
    "wavlm-base": ("wavlm", {}),
    "wavlm-large": ("wavlm", _LARGE | _LAYER_NORM | {"conv_bias": False}),
    "tiny-wav2vec2": ("wav2vec2", _TINY),
    "tiny-wav2vec2-layer": ("wav2vec2", _TINY | _LAYER_NORM | {"num_hidden_layers": 3}),
    "tiny-hubert": ("hubert", _TINY),
    "tiny-hubert-batch": ("hubert", _TINY | {"conv_pos_batch_norm": True}),
    "tiny-wavlm": ("wavlm", _TINY),
    "tiny-wavlm-layer": ("wavlm", _TINY | _LAYER_NORM),
}


def save_random(architecture: str, folder: Path | str, seed: int = 0) -> Path:
    """Write config.json (flagged `undertone_random_weights`), model.safetensors and preprocessor_config.json.

    Args:
        architecture: a key of `ARCHITECTURES`.
        folder: where to; made if missing.
        seed: of the weights; the global generator is left as it was.

    Raises:
        ValueError: unknown architecture.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"Unknown architecture {architecture!r}.{nearest(architecture, ARCHITECTURES)}")
    model_type, overrides = ARCHITECTURES[architecture]
    config = AutoConfig.for_model(model_type, undertone_random_weights=True, **overrides)
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        AutoModel.from_config(config).save_pretrained(folder)
    do_normalize = find_family(model_type, architecture).normalizes(config)
    Wav2Vec2FeatureExtractor(do_normalize=do_normalize, return_attention_mask=True).save_pretrained(folder)
    return Path(folder)
