"""What of an upstream learns: all of it, its top layers, or LoRA adapters beside it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import nn

from undertone.common.files import read_json
from undertone.upstream.base import Upstream
from undertone.upstream.hf.families import Family
from undertone.upstream.hf.limits import as_sentence
from undertone.upstream.hf.upstream import HFUpstream


def finetune(upstream: Upstream, *, train_front_end: bool = False, top_layers: int | None = None) -> None:
    """Let the weights of a Hugging Face upstream learn, in place.

    With `train_front_end` also those of the convolutional feature encoder, which otherwise runs without autograd; with
    `top_layers` only this many transformer blocks, the last ones, and what follows them.
    """
    model, family = _open(upstream)
    model.requires_grad_(top_layers is None)
    if top_layers is not None:
        blocks = model.get_submodule(family.blocks)
        blocks = blocks if isinstance(blocks, nn.ModuleList) else nn.ModuleList([blocks])
        if not 1 <= top_layers <= len(blocks):
            raise ValueError(f"top_layers must be 1..{len(blocks)} for {upstream.name!r}, got {top_layers}.")
        blocks[-top_layers:].requires_grad_(True)
        final_norm = getattr(model.get_submodule(family.blocks.rpartition(".")[0]), "layer_norm", None)
        if final_norm is not None and getattr(model.config, "do_stable_layer_norm", False):
            final_norm.requires_grad_(True)  # stands after the last block; elsewhere it stands before the first
    if not train_front_end:
        freeze_front_end(model, family)


def add_lora(upstream: Upstream, *, rank: int, alpha: int, dropout: float) -> None:
    """Freeze the upstream and put LoRA adapters beside its attention projections, in place (Hu et al. 2021).

    `upstream.model` is then PEFT's model, which saves its adapters in PEFT's own format.
    """
    from peft import LoraConfig, get_peft_model  # here, as importing it takes a second

    model, family = _open(upstream)
    if not family.lora_targets:
        raise ValueError(
            f"Upstream {upstream.name!r} has no linear layers in its blocks that LoRA could adapt. "
            f"Use mode=frozen or mode=finetune."
        )
    freeze_front_end(model, family)
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=list(family.lora_targets))
    with warnings.catch_warnings():  # PEFT asks transformers by a name that is about to go
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        upstream.model = get_peft_model(model, config)


def save_lora(upstream: Upstream, folder: Path) -> None:
    """Write adapter_config.json and adapter_model.safetensors in PEFT's format; `revision` is the upstream's commit.

    With PEFT alone they must be merged before use:
    `PeftModel.from_pretrained(AutoModel.from_pretrained(BASE), folder).merge_and_unload()`. transformers' WavLM
    attention hands the weights of its projections, not their modules, to `multi_head_attention_forward`, so that
    adapters that are not merged change nothing there, without a word.
    """
    config: Any = upstream.model.peft_config["default"]  # type: ignore[union-attr, index]
    config.base_model_name_or_path, config.revision = upstream.name, upstream.spec().get("commit")
    upstream.model.save_pretrained(str(folder))  # type: ignore[union-attr, operator]


def load_lora(upstream: Upstream, folder: Path) -> None:
    """Put the adapters that `save_lora` wrote into the upstream and merge them.

    Of adapter_config.json only `lora_alpha` is taken: PEFT's other settings may hold regular expressions and names of
    modules to import. The rank is that of the weights.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    settings, path = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    with as_sentence(f"The adapters in {folder} cannot be read"):
        alpha = int(read_json(settings)["lora_alpha"])
        weights = load_file(path)
        ranks = {len(weight) for name, weight in weights.items() if ".lora_A." in name}
    if len(ranks) != 1:
        raise ValueError(
            f"{path} holds adapters of {len(ranks)} ranks; one is expected. Download or save the model again."
        )
    add_lora(upstream, rank=ranks.pop(), alpha=alpha, dropout=0.0)
    wanted = get_peft_model_state_dict(upstream.model)
    wrong = sorted(set(wanted) ^ set(weights)) or [key for key in wanted if wanted[key].shape != weights[key].shape]
    if wrong:
        raise ValueError(f"{path} does not fit the upstream: {', '.join(wrong[:5])}. Download or save the model again.")
    set_peft_model_state_dict(upstream.model, weights)
    merge_lora(upstream)


def save_adapters(upstream: Upstream, folder: Path) -> None:
    """`save_lora` of an upstream; of several streams that of each which has adapters, into FOLDER/STREAM."""
    for name, part in upstream.streams.items():
        if hasattr(getattr(part, "model", None), "peft_config"):
            save_lora(part, folder if part is upstream else folder / name)


def load_adapters(upstream: Upstream, folder: Path) -> None:
    """`load_lora` of what `save_adapters` wrote."""
    for name, part in upstream.streams.items():
        own = folder if part is upstream else folder / name
        if own.is_dir():
            load_lora(part, own)


def merge_lora(upstream: Upstream) -> None:
    """Replace each adapted weight W by W + (alpha / rank) BA and drop the adapters, in place."""
    upstream.model = upstream.model.merge_and_unload()  # type: ignore[union-attr, operator]


def _open(upstream: Upstream) -> tuple[nn.Module, Family]:
    """The transformers model of an upstream, and its family."""
    if not isinstance(upstream, HFUpstream):
        raise ValueError(
            f"Upstream {upstream.name!r} has no weights that could learn; mode=finetune and mode=lora need a "
            f"Hugging Face model. Use mode=frozen, or such a model."
        )
    return upstream.model, upstream.family


def freeze_front_end(model: nn.Module, family: Family, frozen: bool = True) -> None:
    """Let the convolutions before the first block learn no more, or again."""
    for name in family.front_end:
        front_end = model.get_submodule(name)
        front_end.requires_grad_(not frozen)
        if hasattr(front_end, "_requires_grad"):
            # transformers otherwise starts autograd at its input in train mode
            front_end._requires_grad = not frozen  # type: ignore[assignment]
