"""Checkpoints under fairseq's names give the hidden states of the transformers model that they were made from."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from undertone.upstream import WaveBatch, load_upstream
from undertone.upstream.hf.fairseq import convert_fairseq

WAVE = 0.1 * torch.randn(9000, generator=torch.Generator().manual_seed(3)) + 0.05
HEADS = {"final_proj.weight": torch.zeros(4, 32), "label_embs_concat": torch.zeros(5, 4)}


def to_fairseq(name: str) -> str:
    """A name of transformers' as fairseq has it, written from fairseq's side."""
    name = name.replace("feature_projection.projection", "post_extract_proj")
    name = name.replace("feature_projection.layer_norm", "layer_norm").replace("masked_spec_embed", "mask_emb")
    name = name.replace("pos_conv_embed.conv.parametrizations.weight.original0", "pos_conv.0.weight_g")
    name = name.replace("pos_conv_embed.conv.parametrizations.weight.original1", "pos_conv.0.weight_v")
    name = name.replace("pos_conv_embed.conv.bias", "pos_conv.0.bias")
    name = re.sub(r"pos_conv_embed\.layers\.(\d)\.conv", r"pos_conv.\1.0", name)
    name = re.sub(r"conv_layers\.(\d)\.conv", r"conv_layers.\1.0", name)
    if block := re.fullmatch(r"(encoder\.layers\.\d+)\.(.+)", name):
        inside = block[2].replace("feed_forward.intermediate_dense", "fc1").replace("feed_forward.output_dense", "fc2")
        if inside.startswith("layer_norm"):
            inside = f"self_attn_{inside}"
        inside = inside.replace("attention.gru_rel_pos_linear", "self_attn.grep_linear")
        inside = inside.replace("attention.gru_rel_pos_const", "self_attn.grep_a")
        inside = inside.replace("attention.rel_attn_embed", "self_attn.relative_attention_bias")
        name = f"{block[1]}.{re.sub(r'^attention', 'self_attn', inside)}"
    return name


def checkpoint(folder: Path, *, whole: str = "") -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    """The weights of a folder's model by fairseq's names, and the settings that fairseq keeps."""
    model = AutoModel.from_pretrained(folder)
    norm = "2.1" if getattr(model.config, "feat_extract_norm", "layer") == "layer" else "2"
    weights = {
        whole + re.sub(r"(conv_layers\.\d)\.layer_norm", rf"\1.{norm}", to_fairseq(name)): value
        for name, value in model.state_dict().items()
    }
    settings = {
        "encoder_attention_heads": model.config.num_attention_heads,
        "layer_norm_first": getattr(model.config, "do_stable_layer_norm", False),
        "normalize": norm == "2.1",
        "max_distance": getattr(model.config, "max_bucket_distance", None),
    }
    return weights, settings


def states(folder: Path, do_normalize: bool) -> torch.Tensor:
    upstream = load_upstream(str(folder))
    upstream.do_normalize = do_normalize
    with torch.inference_mode():
        return upstream(WaveBatch.collate([WAVE], 16_000)).states


@pytest.mark.parametrize(
    "architecture, form",
    [
        ("tiny-wav2vec2", "args"),
        ("tiny-wav2vec2-layer", "cfg"),
        ("tiny-hubert", "cfg"),
        ("tiny-hubert", "ctc"),
        ("tiny-wavlm", "flat"),
        ("tiny-wavlm-layer", "flat"),
        ("tiny-data2vec", "cfg"),
    ],
)
def test_the_hidden_states_are_those_of_the_model_it_was_made_from(
    architecture: str, form: str, tiny, tmp_path
) -> None:
    whole = "w2v_encoder.w2v_model." if form == "ctc" else ""
    weights, settings = checkpoint(tiny(architecture), whole=whole)
    heads = {"w2v_encoder.proj.weight": torch.zeros(3, 32)} if whole else HEADS if "hubert" in architecture else {}
    content: dict[str, object] = {"model": weights | heads}
    if form == "args":
        content["args"] = argparse.Namespace(**settings)
    elif form == "flat":  # Microsoft's
        content["cfg"] = settings
    else:
        content |= {"args": None, "cfg": {"task": {"normalize": settings.pop("normalize")}, "model": settings}}
    normalize = content["cfg"]["task"]["normalize"] if form in ("cfg", "ctc") else settings["normalize"]
    torch.save(content, tmp_path / "model.pt")
    folder = convert_fairseq(tmp_path / "model.pt", tmp_path / "folder")
    converted = load_upstream(str(folder))
    assert converted.do_normalize == normalize
    assert converted.model.config.model_type in (architecture.split("-")[1], "hubert", "wav2vec2", "data2vec-audio")
    torch.testing.assert_close(states(folder, normalize), states(tiny(architecture), normalize), rtol=0, atol=1e-6)
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_what_is_no_such_checkpoint_is_a_sentence_and_runs_nothing(tiny, tmp_path) -> None:
    weights, settings = checkpoint(tiny("tiny-hubert"))
    file, folder = tmp_path / "model.pt", tmp_path / "folder"
    cases = [
        ({"model": weights, "cfg": settings, "code": Payload(tmp_path / "ran")}, "cannot be read without running"),
        ({"weights": weights}, "holds no `model` with weights"),
        ({"model": weights}, "does not say whether its audio is normalised"),
        (
            {"model": weights | {"modality_encoders.AUDIO.weight": torch.zeros(2)}, "cfg": settings},
            "holds 'modality_enc",
        ),
        ({"model": {"a": torch.zeros(2)}, "cfg": settings}, "it has no seven convolutions"),
        ({"model": {k: v for k, v in weights.items() if "layers.1.fc2.bias" not in k}, "cfg": settings}, "do not fit"),
    ]
    for content, message in cases:
        torch.save(content, file)
        with pytest.raises(ValueError, match=message):
            convert_fairseq(file, folder)
        assert not folder.exists() and not (tmp_path / "ran").exists()
