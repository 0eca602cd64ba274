"""Make docs/encoders.md: what each type of encoder gives, measured on tiny random models.

python -m undertone.tests.upstream.hf.encoder_table > docs/encoders.md
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from pathlib import Path

import torch
from transformers import AutoConfig

from undertone.tests.upstream.hf.tiny_encoders import TINY, save_tiny
from undertone.upstream import load_upstream
from undertone.upstream.hf.encoder import EncoderUpstream
from undertone.upstream.hf.encoder_types import TYPES, EncoderType
from undertone.upstream.hf.families import FAMILIES
from undertone.upstream.hf.find_encoder import describe_encoder, find_encoder
from undertone.upstream.hf.random_weights import ARCHITECTURES, save_random
from undertone.upstream.hf.upstream import HFUpstream

EXAMPLES = {
    "audio-spectrogram-transformer": "MIT/ast-finetuned-audioset-10-10-0.4593",
    "audioflamingo3_encoder": "nvidia/audio-flamingo-3-hf",
    "clap_audio_model": "laion/clap-htsat-unfused",
    "dac": "descript/dac_16khz",
    "data2vec-audio": "facebook/data2vec-audio-base",
    "encodec": "facebook/encodec_24khz",
    "gemma3n_audio": "google/gemma-3n-E2B-it",
    "granite_speech_encoder": "ibm-granite/granite-speech-3.3-2b",
    "hubert": "facebook/hubert-base-ls960",
    "mimi": "kyutai/mimi",
    "moonshine": "UsefulSensors/moonshine-tiny",
    "parakeet_encoder": "nvidia/parakeet-ctc-1.1b",
    "qwen2_5_omni_audio_encoder": "Qwen/Qwen2.5-Omni-7B",
    "qwen2_audio_encoder": "Qwen/Qwen2-Audio-7B",
    "qwen3_omni_moe_audio_encoder": "Qwen/Qwen3-Omni-30B-A3B-Instruct",
    "seamless_m4t": "facebook/hf-seamless-m4t-medium",
    "seamless_m4t_v2": "facebook/seamless-m4t-v2-large",
    "sew": "asapp/sew-tiny-100k",
    "sew-d": "asapp/sew-d-tiny-100k",
    "speech_to_text": "facebook/s2t-small-librispeech-asr",
    "speecht5": "microsoft/speecht5_asr",
    "unispeech": "microsoft/unispeech-large-1500h-cv",
    "unispeech-sat": "microsoft/unispeech-sat-base-plus",
    "voxtral_encoder": "mistralai/Voxtral-Mini-3B-2507",
    "wav2vec2": "facebook/wav2vec2-base",
    "wav2vec2-bert": "facebook/w2v-bert-2.0",
    "wav2vec2-conformer": "facebook/wav2vec2-conformer-rel-pos-large",
    "wavlm": "microsoft/wavlm-base-plus",
    "whisper": "openai/whisper-base",
}
HEAD = """# The types of encoders

This page is generated: `python -m undertone.tests.upstream.hf.encoder_table > docs/encoders.md`.

What is found of each type by looking at it; layers are those of transformers' default geometry, a checkpoint says how
many it has. Larger models that hold such an encoder give the same: `parakeet_ctc`, `canary` and `cohere_asr` a Parakeet
encoder, `csm` and `moshi` Mimi, and so on. How it works: [upstreams.md](upstreams.md).

No clip depends on what shares its batch. In a forward there are clips of any length, padded, where the encoder's mask
keeps that out exactly; clips filled up to the length in the column before, as the model was trained; clips of one
length; or one clip. "ONNX": what `undertone export` also takes as an upstream.

| type | example on the Hub | layers | frames a second | audio, Hz | at most, s | a batch is | LoRA adapts | ONNX |
|---|---|---|---|---|---|---|---|---|"""


def row(model_type: str, folder: Path) -> str:
    """One line of the table."""
    upstream = load_upstream(str(folder))
    assert isinstance(upstream, HFUpstream)
    few, many = (round(seconds * upstream.sample_rate) for seconds in (2.0, 8.0))
    short, long = upstream.frame_lengths(torch.tensor([few, many])).tolist()
    steps = (name.removesuffix(".linear").rpartition(".")[2] for name in upstream.family.lora_targets)  # Gemma 4's
    batch = "padded"
    if isinstance(upstream, EncoderUpstream) and not upstream.pads:
        fixed = upstream._shapes(upstream._features(torch.zeros(few))[0]) == upstream._shapes(
            upstream._features(torch.zeros(many))[0]
        )
        batch = "one by one" if upstream.kind.alone else "filled up" if fixed else "of one length"
    cells = [
        f"`{model_type}`",
        EXAMPLES.get(model_type, ""),
        str(default_layers(model_type)),
        f"{(long - short) / 6:.3g}",
        str(upstream.sample_rate),
        f"{upstream.max_seconds:.4g}".replace("inf", ""),
        batch,
        ", ".join(sorted(set(steps))),
        "" if isinstance(upstream, EncoderUpstream) else "yes",
    ]
    return "| " + " | ".join(cells) + " |"


def default_layers(model_type: str) -> int:
    """Hidden states of transformers' default geometry, layer 0 included; nothing is computed."""
    config = AutoConfig.for_model(model_type)
    if model_type in FAMILIES:
        return int(config.num_hidden_layers) + 1
    encoder, part = find_encoder(config, model_type)
    kind = TYPES.get(part.model_type, EncoderType())
    with torch.device("meta"):
        model = encoder(part)
    blocks = describe_encoder(model, model_type, kind.blocks(part) if kind.blocks is not None else None).blocks
    listed = model.get_submodule(blocks)
    return (len(listed) if isinstance(listed, torch.nn.ModuleList) else 1) - kind.skipped(part) + 1


def main() -> None:
    """Print the page."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    tiny = {kind: name for name, (kind, _) in reversed(ARCHITECTURES.items()) if name.startswith("tiny-")}
    print(HEAD)
    for model_type in sorted([*TINY, *FAMILIES]):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model"
            print(
                row(
                    model_type,
                    save_random(tiny[model_type], path) if model_type in tiny else save_tiny(model_type, path),
                )
            )


if __name__ == "__main__":
    main()
