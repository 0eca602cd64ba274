"""wav2vec 2.0, HuBERT, WavLM and data2vec checkpoints of fairseq or s3prl as a folder that `load_upstream` reads.

    python -m undertone.upstream.hf.fairseq hubert_base_ls960.pt my_hubert

The file is read with `torch.load(weights_only=True)`: no code in it runs. Names of weights are those of fairseq's
`wav2vec2.py`, `hubert.py` and `data2vec_audio.py` and of Microsoft's `WavLM.py`, which s3prl keeps.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import MODEL_MAPPING, AutoConfig, Wav2Vec2FeatureExtractor

from undertone.common.files import new_folder
from undertone.upstream.hf.pretrained import MASK_EMBEDDING, quiet_transformers

# Of the whole name, from fairseq's to transformers'; the first that fits.
_BLOCK, _BLOCK_THERE = r"encoder\.layers\.(\d+)\.", r"encoder.layers.\1."
_NAMES = [
    (r"feature_extractor\.conv_layers\.(\d+)\.0\.", r"feature_extractor.conv_layers.\1.conv."),
    (r"feature_extractor\.conv_layers\.(\d+)\.2\.(?:1\.)?", r"feature_extractor.conv_layers.\1.layer_norm."),
    (r"encoder\.pos_conv\.(\d+)\.0\.", r"encoder.pos_conv_embed.layers.\1.conv."),
    (r"encoder\.pos_conv\.0\.weight_g", "encoder.pos_conv_embed.conv.parametrizations.weight.original0"),
    (r"encoder\.pos_conv\.0\.weight_v", "encoder.pos_conv_embed.conv.parametrizations.weight.original1"),
    (r"encoder\.pos_conv\.0\.", "encoder.pos_conv_embed.conv."),
    (_BLOCK + r"self_attn_layer_norm\.", _BLOCK_THERE + "layer_norm."),
    (_BLOCK + r"self_attn\.grep_linear\.", _BLOCK_THERE + "attention.gru_rel_pos_linear."),
    (_BLOCK + r"self_attn\.grep_a", _BLOCK_THERE + "attention.gru_rel_pos_const"),
    (_BLOCK + r"self_attn\.relative_attention_bias\.", _BLOCK_THERE + "attention.rel_attn_embed."),
    (_BLOCK + r"self_attn\.", _BLOCK_THERE + "attention."),
    (_BLOCK + r"fc1\.", _BLOCK_THERE + "feed_forward.intermediate_dense."),
    (_BLOCK + r"fc2\.", _BLOCK_THERE + "feed_forward.output_dense."),
    (_BLOCK + r"final_layer_norm\.", _BLOCK_THERE + "final_layer_norm."),
    (r"encoder\.layer_norm\.", "encoder.layer_norm."),
    (r"post_extract_proj\.", "feature_projection.projection."),
    (r"layer_norm\.", "feature_projection.layer_norm."),
    (r"mask_emb$", MASK_EMBEDDING),
]
# What pretraining and CTC need beside the encoder.
_HEADS = re.compile(
    r"(w2v_encoder|quantizer|project_q|final_proj|proj|label_embs_concat|target_glu|layer_norm_.*|_ema|regression)\b"
)
_WHOLE = "w2v_encoder.w2v_model."  # of a model that was fine-tuned with CTC
_KERNELS = [10, 3, 3, 3, 3, 2, 2]  # of all published ones, with the strides 5, 2, 2, 2, 2, 2, 2


def convert_fairseq(file: str | Path, folder: str | Path) -> Path:
    """Write config.json, model.safetensors and preprocessor_config.json of a checkpoint's encoder; heads are left out.

    Raises:
        ValueError: the file is none of such a model, says too little about it, or `folder` is not empty.
    """
    weights, settings = _read(Path(file))
    model_type = _model_type(weights)
    config = AutoConfig.for_model(model_type, **_geometry(Path(file), weights, settings, model_type))
    with quiet_transformers():
        model_class: Any = MODEL_MAPPING[type(config)]
        model = model_class(config)
    state = dict(_renamed(Path(file), weights))
    state.setdefault(MASK_EMBEDDING, torch.zeros(config.hidden_size))
    wanted = model.state_dict()
    wrong = sorted(set(wanted) ^ set(state)) or [name for name in wanted if wanted[name].shape != state[name].shape]
    if wrong:
        raise ValueError(
            f"{str(file)!r} is no {model_type} checkpoint as fairseq writes it: {', '.join(wrong[:5])} do not fit. "
            f"Wrap its network in a class of your own: undertone new upstream my_upstream."
        )
    model.load_state_dict(state)
    of_layer_norm = getattr(config, "feat_extract_norm", "layer") == "layer"
    with new_folder(Path(folder)) as draft, quiet_transformers():
        model.save_pretrained(draft)
        Wav2Vec2FeatureExtractor(
            do_normalize=bool(settings["normalize"]), return_attention_mask=of_layer_norm
        ).save_pretrained(draft)
    return Path(folder)


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights, and all settings by their last name."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"{str(file)!r} cannot be read without running what is in it: {reason} "
            f"Take the same model from the Hub, in transformers' format."
        ) from error
    weights = found.get("model") if isinstance(found, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ValueError(f"{str(file)!r} holds no `model` with weights, as fairseq's and s3prl's checkpoints do.")
    settings = dict(_flat([found.get("args"), found.get("cfg")]))
    if not {"normalize", "encoder_attention_heads"} <= settings.keys():
        raise ValueError(
            f"{str(file)!r} does not say whether its audio is normalised, nor how many attention heads it has (it has "
            f"no `cfg` or `args`). Take the same model from the Hub, in transformers' format."
        )
    return {name.removeprefix(_WHOLE): value.float() for name, value in weights.items()}, settings


def _flat(settings: Any) -> Iterator[tuple[str, Any]]:
    """Every setting in nested dicts, lists and namespaces, the outer ones last so that `dict` keeps them."""
    inner = vars(settings) if isinstance(settings, argparse.Namespace) else settings
    for value in inner.values() if isinstance(inner, Mapping) else inner if isinstance(inner, list) else ():
        yield from _flat(value)
    if isinstance(inner, Mapping):
        yield from ((str(key), value) for key, value in inner.items() if not isinstance(value, Mapping))


def _model_type(weights: Mapping[str, Tensor]) -> str:
    if any("grep_linear" in name for name in weights):
        return "wavlm"
    if "encoder.pos_conv.0.0.weight" in weights:
        return "data2vec-audio"
    return "hubert" if "label_embs_concat" in weights else "wav2vec2"  # the same arithmetic


def _geometry(
    file: Path, weights: Mapping[str, Tensor], settings: Mapping[str, Any], model_type: str
) -> dict[str, Any]:
    """The config that the shapes of the weights and the settings say."""
    convolutions = [f"feature_extractor.conv_layers.{index}.0.weight" for index in range(len(_KERNELS))]
    missing = [name for name in (*convolutions, "post_extract_proj.weight") if name not in weights]
    if missing or [weights[name].shape[2] for name in convolutions] != _KERNELS:
        raise ValueError(
            f"{str(file)!r} holds no wav2vec 2.0, HuBERT, WavLM or data2vec encoder: it has no seven convolutions with "
            f"kernels of {_KERNELS}. Wrap its network in a class of your own: undertone new upstream my_upstream."
        )
    sizes = weights["encoder.layers.0.fc1.weight"].shape
    geometry = {
        "hidden_size": sizes[1],
        "intermediate_size": sizes[0],
        "num_hidden_layers": len({name for name in weights if re.fullmatch(_BLOCK + r"fc1\.weight", name)}),
        "num_attention_heads": settings["encoder_attention_heads"],
        "conv_dim": [weights[name].shape[0] for name in convolutions],
        "conv_bias": "feature_extractor.conv_layers.0.0.bias" in weights,
        "do_stable_layer_norm": bool(settings.get("layer_norm_first", False)),
    }
    if model_type == "data2vec-audio":
        kernel = weights["encoder.pos_conv.0.0.weight"]
        stack = [name for name in weights if re.fullmatch(r"encoder\.pos_conv\.\d+\.0\.weight", name)]
        geometry |= {"conv_pos_kernel_size": kernel.shape[2], "num_conv_pos_embeddings": len(stack)}
    else:
        kernel = weights["encoder.pos_conv.0.weight_v"]
        of_layer_norm = "feature_extractor.conv_layers.0.2.1.weight" in weights
        geometry |= {"feat_extract_norm": "layer" if of_layer_norm else "group"}
        geometry |= {"num_conv_pos_embeddings": kernel.shape[2]}
    geometry["num_conv_pos_embedding_groups"] = kernel.shape[0] // kernel.shape[1]
    if model_type == "wavlm":
        geometry["num_buckets"] = weights["encoder.layers.0.self_attn.relative_attention_bias.weight"].shape[0]
        geometry["max_bucket_distance"] = settings.get("max_distance", 800)  # of all published ones
    return geometry


def _renamed(file: Path, weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The encoder's weights by transformers' names."""
    for name, value in weights.items():
        fitting = ((re.match(pattern, name), there) for pattern, there in _NAMES)
        found = next(((match, there) for match, there in fitting if match), None)
        if found is not None:
            yield found[0].expand(found[1]) + name[found[0].end() :], value
        elif not _HEADS.match(name):
            raise ValueError(
                f"{str(file)!r} holds {name!r}, which no wav2vec 2.0, HuBERT, WavLM or data2vec of fairseq has. "
                f"Wrap its network in a class of your own: undertone new upstream my_upstream."
            )


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("python -m undertone.upstream.hf.fairseq FILE.pt FOLDER")
    try:
        print(convert_fairseq(sys.argv[1], sys.argv[2]))
    except ValueError as reason:
        sys.exit(f"undertone: {reason}")
