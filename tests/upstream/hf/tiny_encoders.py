"""A tiny random model of every type of audio encoder that the installed transformers has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import MODEL_MAPPING, AutoConfig, SpeechT5ForSpeechToText

from undertone.upstream.hf.extractor import default_extractor, make_extractor
from undertone.upstream.hf.find_encoder import find_encoder

_SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
_WHISPER = {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 64}
_GRANITE = {"num_layers": 4, "hidden_dim": 32, "num_heads": 4, "dim_head": 8, "output_dim": 12}
_CODEC = _SIZE | {"num_key_value_heads": 4, "head_dim": 8, "num_filters": 4, "upsample_groups": 32}
_MIMI = _CODEC | {"vector_quantization_hidden_dimension": 16, "codebook_dim": 16, "codebook_size": 16}
_DECODER = {"decoder_layers": 1, "decoder_attention_heads": 4, "decoder_ffn_dim": 64, "vocab_size": 32}
_PARAKEET = _SIZE | {"subsampling_conv_channels": 16}
_DAC = {"encoder_hidden_size": 4, "decoder_hidden_size": 32, "hidden_size": 16, "codebook_size": 16, "n_codebooks": 2}
_SEAMLESS = {
    **_DECODER,
    "hidden_size": 32,
    "speech_encoder_layers": 2,
    "speech_encoder_attention_heads": 4,
    "speech_encoder_intermediate_size": 64,
    "encoder_layers": 1,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "t2u_encoder_layers": 1,
    "t2u_decoder_layers": 1,
    "t2u_encoder_attention_heads": 4,
    "t2u_decoder_attention_heads": 4,
    "t2u_encoder_ffn_dim": 32,
    "t2u_decoder_ffn_dim": 32,
    "unit_hifi_gan_vocab_size": 16,
    "upsample_initial_channel": 32,
    **dict.fromkeys(("t2u_vocab_size", "char_vocab_size"), 32),
    **dict.fromkeys(("unit_embed_dim", "lang_embed_dim", "spkr_embed_dim"), 8),
}
_HEADS = {"num_key_value_heads": 4}
_OMNI = _WHISPER | {"output_dim": 16, "downsample_hidden_size": 8}
_SPEECHT5 = {
    **{key: value for key, value in _WHISPER.items() if key != "d_model"},
    **{key: value for key, value in _DECODER.items() if key != "vocab_size"},
    "hidden_size": 32,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
_MOONSHINE = {"hidden_size": 32, "intermediate_size": 64, "vocab_size": 32}
_MOONSHINE |= {f"{part}_num_hidden_layers": 2 for part in ("encoder", "decoder")}
_MOONSHINE |= {f"{part}_num_{kind}_heads": 4 for part in ("encoder", "decoder") for kind in ("attention", "key_value")}

# transformers' defaults are the true geometry; these make it small where weights are.
TINY: dict[str, dict[str, Any]] = {
    "audio-spectrogram-transformer": _SIZE,
    "audioflamingo3_encoder": _SIZE,
    "clap_audio_model": {
        "patch_embeds_hidden_size": 8,
        "depths": [1, 1, 1, 2],
        "num_attention_heads": [2, 2, 2, 4],
        "hidden_size": 64,
    },
    "dac": _DAC,
    "dots3_note_audio_encoder": _SIZE
    | {
        "num_key_value_heads": 4,
        "head_dim": 8,
        "downsample_hidden_size": 8,
        "adapter_input_size": 32,
        "conv_output_size": 128,
        "adapter_out_dim": 16,
    },
    "encodec": {"num_filters": 4, "hidden_size": 16, "codebook_size": 16, "codebook_dim": 16},
    "fun_asr_nano_encoder": _SIZE | {"num_hidden_layers": 4, "num_timestamp_prediction_layers": 1},
    "gemma3n_audio": {
        "hidden_size": 32,
        "conf_num_attention_heads": 4,
        "conf_num_hidden_layers": 2,
        "sscp_conv_channel_size": [8, 4],
    },
    "gemma4_audio": _SIZE | {"subsampling_conv_channels": [128, 4], "output_proj_dims": 16},
    "glmasr_encoder": _SIZE | _HEADS,
    "granite_speech_encoder": _GRANITE,
    "granite_speech5_encoder": _SIZE
    | {"num_hidden_layers": 4, "num_key_value_heads": 4, "head_dim": 8, "vocab_size": 12},
    "granite_speech_plus_encoder": _GRANITE,
    "mimi": _MIMI | {"num_quantizers": 2},
    "moonshine": _MOONSHINE,
    "moonshine_streaming_encoder": _SIZE
    | {"num_key_value_heads": 4, "head_dim": 8, "sliding_windows": [[16, 4], [16, 0]]},
    "moss_transcribe_diarize_audio": _SIZE,
    "muse_spark_audio": {"hidden_sizes": [4, 8, 16, 32], "depths": [1, 1, 1, 2], "out_hidden_size": 16},
    "nemotron3_5_transcribe_asr_audio": _SIZE | _HEADS,
    "nemotron3_diarization_audio": _SIZE | _HEADS,
    "nemotron_asr_streaming_encoder": _PARAKEET,
    "parakeet_encoder": _PARAKEET,
    "pe_audio_encoder": _SIZE | {"num_key_value_heads": 4, "head_dim": 8, "dac_config": _DAC},
    "phi4_multimodal_audio": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_blocks": 2,
        "num_attention_heads": 4,
        "ext_pw_out_channel": 32,
        "depthwise_separable_out_channel": 32,
        "nemo_conv_channels": 8,
    },
    "pocket_tts_audio_tokenizer": _CODEC | {"latent_dim": 16},
    "qwen2_audio_encoder": _WHISPER,
    "qwen2_5_omni_audio_encoder": _WHISPER | {"output_dim": 16},
    "qwen3_asr_encoder": _OMNI,
    "qwen3_omni_moe_audio_encoder": _OMNI,
    "seamless_m4t": _SEAMLESS,
    "seamless_m4t_v2": _SEAMLESS,
    "speech_to_text": _WHISPER | _DECODER | {"conv_channels": 32},
    "speecht5": _SPEECHT5,
    "vibevoice_acoustic_tokenizer": {"hidden_size": 16, "num_filters": 2, "depths": [1, 1, 1, 1, 1, 1, 2]},
    "voxtral_encoder": _SIZE,
    "voxtral_realtime_encoder": _SIZE | {"head_dim": 8},
}

# What published checkpoints say, where transformers' default is another extractor or none.
EXTRACTORS = {
    "clap_audio_model": {"feature_extractor_type": "ClapFeatureExtractor", "truncation": "rand_trunc"},
    "moonshine_streaming_encoder": {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": False},
}
NAMES_DIFFER = ("dots3_note_audio_encoder",)  # transformers does not find again what it saves of this part alone


def save_tiny(model_type: str, folder: Path) -> Path:
    """Write a whole model of that type, as transformers makes it, and its feature extractor."""
    config = AutoConfig.for_model(model_type, undertone_random_weights=True, **TINY[model_type])
    encoder, part = find_encoder(config, model_type)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if model_type == "speecht5":
            model = SpeechT5ForSpeechToText(config)
        else:
            model = MODEL_MAPPING[type(config)](config) if type(config) in MODEL_MAPPING else encoder(part)
        for module in model.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):  # as if trained
                torch.nn.init.constant_(module.bias, 0.3)
    model.save_pretrained(folder)
    if model_type in NAMES_DIFFER:
        save_file(model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    settings = EXTRACTORS.get(model_type) or default_extractor(config, part, model_type)
    make_extractor(settings, model_type).save_pretrained(folder)
    return folder
