"""The speech families of transformers whose input is computed in PyTorch, by the config's `model_type`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import MODEL_MAPPING, PreTrainedConfig, PreTrainedModel
from transformers.models.wavlm.modeling_wavlm import WavLMAttention
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from undertone.upstream.hf import filterbank, lasr, whisper
from undertone.upstream.hf.masking import mask_blocks, mask_convs, squeezed_frames
from undertone.upstream.types import length_mask

# ---- Position embeddings of conformers, computed for each batch.


def _forget(module: Any, args: tuple[Any, ...]) -> None:
    module.cached_sequence_length = None


def _usable(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
    return output.clone() if output.is_inference() and not torch.is_inference_mode_enabled() else output


def forget_positions(model: PreTrainedModel) -> None:
    """Keep position embeddings that `torch.inference_mode` made from being met again in training.

    transformers caches them between calls; autograd refuses a tensor of inference mode, so that training would stop
    after an evaluation that had seen a batch of the same length. A cached one may also be on another device.
    """
    embed: Any = model.get_submodule("encoder").embed_positions
    if embed is not None:
        embed.register_forward_pre_hook(_forget)
        embed.register_forward_hook(_usable)


# ---- WavLM's attention, its projections called as modules.


class ModularAttention(WavLMAttention):
    """`WavLMAttention` that calls its four projections; parameters, keys and results are the same.

    transformers hands their *weights* to `torch.nn.functional.multi_head_attention_forward`, so that a LoRA adapter
    around a projection is passed by: it changes nothing and gets no gradient. This is also faster, since
    `multi_head_attention_forward` materialises attention weights that are not used.
    """

    def torch_multi_head_self_attention(  # type: ignore[override]
        self, hidden_states: Tensor, attention_mask: Tensor | None, gated_position_bias: Tensor
    ) -> tuple[Tensor, None]:
        """(B, T, D), (B, T) of 1 = real, (B * heads, T, T) -> (B, T, D) and no attention weights."""
        query, key, value = (
            projection(hidden_states).unflatten(2, (self.num_heads, -1)).transpose(1, 2)  # (B, heads, T, D / heads)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        bias = gated_position_bias.unflatten(0, (-1, self.num_heads)).to(query.dtype)  # (B, heads, T, T)
        if attention_mask is not None:
            bias = bias.masked_fill(attention_mask.ne(1)[:, None, None], float("-inf"))
        dropout = self.dropout if self.training else 0.0
        output = torch.nn.functional.scaled_dot_product_attention(query, key, value, bias, dropout)
        return self.out_proj(output.transpose(1, 2).flatten(2)), None  # (B, T, D)


# ---- The table of families.

# Every layer gives a hidden state, in train mode too, at the frame rate of the encoder and without SpecAugment.
_SETTINGS = {"layerdrop": 0.0, "apply_spec_augment": False, "add_adapter": False}
# The last hidden state is after the final layer norm (as published; transformers 5 alone would give it before) ...
_AFTER_NORM = _SETTINGS | {"tie_last_hidden_states": True}
# ... but what SEW and wav2vec2-BERT do after their last block is of another frame rate, or a head's.
_LAST_BLOCK = _SETTINGS | {"tie_last_hidden_states": False}


class FrameMask(Protocol):
    """A module or hook that keeps padding out: (B,) valid frames of the next input, or None when all are valid."""

    lengths: Tensor | None


def _waveform(config: PreTrainedConfig, samples: Tensor, lengths: Tensor) -> dict[str, Tensor]:
    return {"input_values": samples, "attention_mask": length_mask(lengths, samples.shape[1]).long()}


def _convolution_frames(model: Any, lengths: Tensor) -> Tensor:
    return model._get_feat_extract_output_lengths(lengths)


@dataclass(frozen=True)
class Family:
    """What an upstream of one `model_type` needs to be told."""

    # whether its models expect each utterance at zero mean and unit variance, for a checkpoint that has no
    # preprocessor_config.json to say so. None: they are fed with features and never do
    normalizes: Callable[[PreTrainedConfig], bool] | None
    # (model, (B,) samples) -> (B,) frames of its hidden states, as the model itself counts them
    frame_lengths: Callable[[Any, Tensor], Tensor] = _convolution_frames
    # (config, (B, N) samples, (B,) lengths) -> the arguments of the model's forward
    inputs: Callable[[PreTrainedConfig, Tensor, Tensor], dict[str, Tensor]] = _waveform
    # changes the model in place where padding would reach an utterance; the masks that wait for lengths
    prepare: Callable[[Any], Sequence[FrameMask]] = lambda model: ()
    settings: Mapping[str, Any] = field(default_factory=lambda: _AFTER_NORM)  # set in the config
    # what preprocessor_config.json says of the features, as they are computed here
    features: Mapping[str, Any] = field(default_factory=dict)
    max_seconds: Callable[[PreTrainedConfig], float] = lambda config: math.inf  # config -> the longest utterance
    # the class to make, where transformers' base model has more than an encoder
    encoder: type[PreTrainedModel] | None = None
    # pattern -> replacement in a checkpoint's names, from the base model's to the encoder's
    key_mapping: dict[str, str] | None = None
    # dotted names of the convolutions before the first block; none if the input is filterbanks
    front_end: tuple[str, ...] = ("feature_extractor",)
    blocks: str = "encoder.layers"  # dotted name of the list of transformer blocks, the first one first
    # last or whole names of the query and value projections, which LoRA (Hu et al., 2021) adapts
    lora_targets: tuple[str, ...] = ("q_proj", "v_proj")

    @property
    def waveform(self) -> bool:
        """Whether the model is fed with samples, not with spectral features of them."""
        return self.inputs is _waveform

    def model_class(self, config: PreTrainedConfig) -> type[PreTrainedModel]:
        """The class of transformers, never one from a repository."""
        if self.encoder is not None:
            return self.encoder
        return MODEL_MAPPING[type(config)]  # type: ignore[return-value]


def _always(config: PreTrainedConfig) -> bool:
    return True


def _with_layer_norm(config: PreTrainedConfig) -> bool:
    return bool(config.feat_extract_norm == "layer")


def _wavlm(model: PreTrainedModel) -> Sequence[FrameMask]:
    for module in model.modules():
        if isinstance(module, WavLMAttention):
            module.__class__ = ModularAttention
    return ()


def _bert(model: PreTrainedModel) -> Sequence[FrameMask]:
    forget_positions(model)
    return ()  # transformers masks its depthwise convolutions, which only look back


def _conformer(model: PreTrainedModel) -> Sequence[FrameMask]:
    forget_positions(model)
    return mask_convs(model, "encoder.layers.*.conv_module.depthwise_conv")


FAMILIES = {
    # The default of Wav2Vec2FeatureExtractor; facebook/wav2vec2-*, hubert-*, data2vec-audio-*, asapp/sew-* say so.
    "wav2vec2": Family(normalizes=_always),
    "hubert": Family(normalizes=_always),
    "data2vec-audio": Family(
        normalizes=_always, prepare=lambda model: mask_convs(model, "encoder.pos_conv_embed.layers.*.conv")
    ),
    # Base and base+ (group norm) were trained on samples as read, large (layer norm) on normalised ones.
    "wavlm": Family(normalizes=_with_layer_norm, prepare=_wavlm),
    "unispeech-sat": Family(normalizes=_with_layer_norm),
    "unispeech": Family(normalizes=_always),
    "sew": Family(
        normalizes=_always,
        frame_lengths=squeezed_frames,
        prepare=lambda model: mask_blocks(model.encoder.layers),
        settings=_LAST_BLOCK,
    ),
    "sew-d": Family(
        normalizes=_always,
        frame_lengths=squeezed_frames,
        prepare=lambda model: mask_blocks(model.encoder.encoder.layer),
        settings=_LAST_BLOCK,
        blocks="encoder.encoder.layer",
        lora_targets=("query_proj", "value_proj"),
    ),
    "wav2vec2-conformer": Family(normalizes=_always, prepare=_conformer, lora_targets=("linear_q", "linear_v")),
    "wav2vec2-bert": Family(
        normalizes=None,
        frame_lengths=filterbank.stacked_frames,
        inputs=filterbank.filterbank_inputs,
        prepare=_bert,
        settings=_LAST_BLOCK | {"use_intermediate_ffn_before_adapter": False},
        features=filterbank.EXPECTED,
        front_end=(),
        lora_targets=("linear_q", "linear_v"),
    ),
    "lasr_encoder": Family(
        normalizes=None,
        frame_lengths=lasr.subsampled_frames,
        inputs=lasr.lasr_inputs,
        settings={"layerdrop": 0.0, "tie_last_hidden_states": True},  # its own mask keeps padding from convolutions
        features=lasr.EXPECTED,
        front_end=("subsampler",),
        blocks="layers",
    ),
    "whisper": Family(
        normalizes=None,
        frame_lengths=whisper.own_frames,
        inputs=whisper.whisper_inputs,
        settings={"encoder_layerdrop": 0.0, "apply_spec_augment": False, "tie_last_hidden_states": True},
        features=whisper.EXPECTED,
        max_seconds=whisper.max_seconds,
        encoder=WhisperEncoder,
        key_mapping=whisper.ENCODER_KEYS,
        front_end=("conv1", "conv2"),
        blocks="layers",
    ),
}
