"""The contract of every audio encoder of the installed transformers, on a tiny random model of each type."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    ClapConfig,
    ClapModel,
    ParakeetCTCConfig,
    ParakeetForCTC,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    SpeechT5ForSpeechToText,
)

from undertone.hub.onnx.to_onnx import upstream_graph
from undertone.tests.upstream.hf.encoder_table import row
from undertone.tests.upstream.hf.tiny_encoders import TINY, save_tiny
from undertone.upstream import WaveBatch, build_upstream, load_upstream
from undertone.upstream.dropout import UtteranceDropout
from undertone.upstream.hf.adapt import add_lora, finetune
from undertone.upstream.hf.encoder import EncoderUpstream
from undertone.upstream.hf.families import FAMILIES
from undertone.upstream.hf.find_encoder import encoder_class, find_encoder
from undertone.upstream.hf.replay import can_replay

DEFAULT = ("audio-spectrogram-transformer", "mimi", "moonshine", "parakeet_encoder", "qwen3_asr_encoder", "speecht5")
TYPES = [name if name in DEFAULT else pytest.param(name, marks=pytest.mark.slow) for name in TINY]
CODECS = ("dac", "encodec", "vibevoice_acoustic_tokenizer")  # of convolutions alone: one layer, nothing for LoRA
LAYERS = dict.fromkeys(CODECS, 1) | {"fun_asr_nano_encoder": 4}
LAYERS |= dict.fromkeys(("granite_speech_encoder", "granite_speech_plus_encoder"), 5)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """The folder of a tiny random model of a type, written once."""
    root = tmp_path_factory.mktemp("encoders")

    def folder(model_type: str) -> Path:
        path = root / model_type
        return path if path.is_dir() else save_tiny(model_type, path)

    return folder


def noise(seconds: float, rate: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(round(seconds * rate), generator=generator)


@pytest.mark.parametrize("model_type", TYPES)
def test_contract(model_type: str, encoder) -> None:
    upstream = load_upstream(str(encoder(model_type)))
    assert isinstance(upstream, EncoderUpstream) and upstream.random_weights and not upstream.training
    rate, longest = upstream.sample_rate, min(20.0, upstream.max_seconds)
    waves = [noise(seconds, rate, seed) for seed, seconds in enumerate((0.05, longest, 0.7, 1.40007, 0.7))]
    batch = WaveBatch.collate(waves, rate)

    with torch.inference_mode():
        together = upstream(batch)
        assert together.states.shape == (5, upstream.num_layers, int(together.lengths.max()), upstream.hidden_size)
        assert torch.isfinite(together.states).all()
        assert together.lengths.tolist() == upstream.frame_lengths(batch.lengths).tolist()
        for wave, states, length in zip(waves, together.states, together.lengths.tolist(), strict=True):
            alone = upstream(WaveBatch.collate([wave], rate))
            assert alone.lengths.tolist() == [length]
            torch.testing.assert_close(states[:, :length], alone.states[0], rtol=0, atol=1e-5)
            assert not states[:, length:].any(), "padding frames are zero"

    shortest, most, short, double, _ = together.lengths.tolist()
    assert 1 <= shortest <= short < double < most
    rate_of_short, rate_of_long = (double - short) / 0.7, (most - double) / (longest - 1.4)
    assert abs(rate_of_short - rate_of_long) <= 1.5 / 0.7, "frames a second, to a frame and a half"
    assert upstream.num_layers == LAYERS.get(model_type, 3)
    assert not torch.equal(together.states[0, 0, 0], together.states[0, -1, 0]) or model_type in CODECS

    rebuilt = build_upstream(upstream.spec())
    assert rebuilt.fingerprint() != upstream.fingerprint()
    rebuilt.load_state_dict(upstream.state_dict())
    assert rebuilt.fingerprint() == upstream.fingerprint()
    small = WaveBatch.collate([waves[2]], rate)
    with torch.inference_mode():
        assert torch.equal(rebuilt(small).states, upstream(small).states)
    json.dumps(upstream.spec(), allow_nan=False)

    finetune(rebuilt, train_front_end=True)
    rebuilt.train()(small).states.square().mean().backward()
    learned = rebuilt.model.get_submodule(rebuilt.family.blocks).parameters()
    assert any(weight.grad is not None and weight.grad.any() for weight in learned)

    if model_type in CODECS:
        with pytest.raises(ValueError, match="has no linear layers in its blocks that LoRA could adapt"):
            add_lora(upstream, rank=2, alpha=4, dropout=0.0)
        return
    with torch.no_grad():
        before = upstream(small).states
    add_lora(upstream, rank=2, alpha=4, dropout=0.0)
    adapters = {name: weight for name, weight in upstream.named_parameters() if weight.requires_grad}
    assert adapters and all("lora_" in name for name in adapters)
    last = upstream(small).states[:, -1]
    (last * torch.randn(last.shape, generator=torch.Generator().manual_seed(0))).sum().backward()
    assert all(weight.grad.any() for name, weight in adapters.items() if "lora_B" in name)
    torch.optim.SGD(adapters.values(), lr=1.0).step()
    with torch.no_grad():
        assert (upstream(small).states - before).abs().max() > 0


@pytest.mark.parametrize("model_type, forwards", [("parakeet_encoder", 1), ("moonshine", 2)])
@torch.inference_mode()
def test_a_batch_is_padded_where_a_mask_is_exact(model_type: str, forwards: int, encoder) -> None:
    upstream, calls = load_upstream(str(encoder(model_type))), []
    waves = WaveBatch.collate([noise(seconds, 16_000) for seconds in (0.4, 0.7, 0.4)], 16_000)
    upstream._blocks[0].register_forward_hook(lambda *_: calls.append(1))
    upstream(waves)
    assert len(calls) == forwards and upstream.pads == (forwards == 1)


@pytest.mark.parametrize("model_type", ["parakeet_encoder", "speecht5"])
def test_dropout_of_an_utterance_is_its_own_however_the_batch_is_divided(model_type: str, encoder) -> None:
    upstream = load_upstream(str(encoder(model_type))).train()
    waves = [noise(seconds, 16_000, seed) for seed, seconds in enumerate((0.4, 0.7, 0.4))]

    def states(*indices: int) -> torch.Tensor:
        torch.manual_seed(3)
        with UtteranceDropout(torch.tensor(indices, dtype=torch.int32)), torch.no_grad():
            return upstream(WaveBatch.collate([waves[index] for index in indices], 16_000)).states

    together, after = states(0, 1, 2), torch.get_rng_state()
    for index in (0, 1, 2):
        alone = states(index)[0]
        assert torch.equal(torch.get_rng_state(), after)
        torch.testing.assert_close(together[index, :, : alone.shape[1]], alone, rtol=0, atol=1e-5)
    upstream.eval()
    assert not torch.allclose(states(0)[0], together[0, :, : states(0).shape[2]], atol=1e-3), "there was dropout"


def test_what_a_batch_norm_or_a_layerdrop_would_change_in_train_mode(encoder) -> None:
    upstream = load_upstream(str(encoder("parakeet_encoder")))
    assert upstream.model.config.layerdrop == 0.0
    small = WaveBatch.collate([noise(0.5, 16_000)], 16_000)
    with torch.no_grad():
        expected = upstream(small).states
        for module in upstream.train().modules():
            for name in ("p", "dropout", "dropout_positions", "activation_dropout", "attention_dropout"):
                if isinstance(getattr(module, name, None), float):
                    setattr(module, name, 0.0)
        torch.testing.assert_close(upstream(small).states, expected, rtol=0, atol=1e-5)


# ---- transformers' own feature extractor, model and list of hidden states.

MORE = ("audioflamingo3_encoder", "seamless_m4t", "speech_to_text", "voxtral_encoder")
COMPARED = ["moonshine", "parakeet_encoder", "speecht5", *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)]


def own_model(model_type: str, folder: Path):
    """The encoder, by the names that transformers gives it."""
    if model_type == "speecht5":
        return SpeechT5ForSpeechToText.from_pretrained(folder).eval().get_encoder()
    model = AutoModel.from_pretrained(folder).eval()
    if model_type in ("moonshine", "speech_to_text"):
        return model.get_encoder()
    return model.speech_encoder if model_type == "seamless_m4t" else model


@pytest.mark.parametrize("model_type", COMPARED)
@torch.inference_mode()
def test_same_as_transformers(model_type: str, encoder) -> None:
    folder = encoder(model_type)
    upstream = load_upstream(str(folder))
    wave = noise(1.1, 16_000)
    states = upstream(WaveBatch.collate([wave], 16_000)).states
    wanted = {"sampling_rate": 16_000, "return_tensors": "pt"}
    if model_type == "audioflamingo3_encoder":
        wanted["return_attention_mask"] = True
    inputs = AutoFeatureExtractor.from_pretrained(folder)(wave.numpy(), **wanted)
    if model_type == "audioflamingo3_encoder":
        inputs["input_features_mask"] = inputs.pop("attention_mask")
    output = own_model(model_type, folder)(**inputs, output_hidden_states=True)
    layers = [*output.hidden_states]
    if output.last_hidden_state.shape == layers[0].shape:  # after the last norm, and nothing else
        layers[-1] = output.last_hidden_state
    if layers[-1].shape != layers[0].shape:  # transformers puts the output of a pooling or an adapter there
        layers[-1] = states[:, -1]
        layers = [layer[:, : states.shape[2]] for layer in layers]
    frames = math.ceil(len(wave) / 320) if upstream.max_seconds == 30 else layers[0].shape[1]
    torch.testing.assert_close(states, torch.stack([layer[:, :frames] for layer in layers], 1), rtol=0, atol=1e-5)


@torch.inference_mode()
def test_the_patches_of_one_time_are_one_frame(encoder) -> None:
    """AST's first and last frame, averaged over the twelve patches of their time by hand."""
    folder = encoder("audio-spectrogram-transformer")
    wave = noise(10.2, 16_000)
    inputs = AutoFeatureExtractor.from_pretrained(folder)(wave.numpy(), sampling_rate=16_000, return_tensors="pt")
    tokens = AutoModel.from_pretrained(folder)(**inputs).last_hidden_state[0, 2:]  # (12 * 101, 32)
    states = load_upstream(str(folder))(WaveBatch.collate([wave], 16_000)).states[0, -1]  # (101, 32)
    for frame in (0, 100):
        torch.testing.assert_close(states[frame], torch.stack([tokens[row * 101 + frame] for row in range(12)]).mean(0))


# ---- An encoder that is a part of a larger model.

WORDS = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 32, "vocab_size": 40}
LANGUAGE = WORDS | {"model_type": "qwen2", "num_key_value_heads": 4}
PARTS = {"parakeet_ctc": "parakeet_encoder", "qwen2_audio": "qwen2_audio_encoder", "clap": "clap_audio_model"}
WHOLES = ["parakeet_ctc", *(pytest.param(name, marks=pytest.mark.slow) for name in ("qwen2_audio", "clap"))]


def whole(kind: str, folder: Path, encoder) -> dict[str, torch.Tensor]:
    """Save a larger model around a tiny encoder; the encoder's weights."""
    torch.manual_seed(0)
    if kind == "parakeet_ctc":
        model = ParakeetForCTC(ParakeetCTCConfig(vocab_size=12, encoder_config=TINY["parakeet_encoder"]))
        part = model.encoder
    elif kind == "qwen2_audio":
        audio = TINY["qwen2_audio_encoder"] | {"model_type": "qwen2_audio_encoder"}
        model = Qwen2AudioForConditionalGeneration(Qwen2AudioConfig(audio_config=audio, text_config=LANGUAGE))
        part = model.model.audio_tower
    else:
        parts = {"audio_config": TINY["clap_audio_model"], "text_config": WORDS}
        model = ClapModel(ClapConfig(**parts, projection_dim=16))
        part = model.audio_model
    model.save_pretrained(folder)
    shutil.copy(encoder(PARTS[kind]) / "preprocessor_config.json", folder)
    return part.state_dict()


@pytest.mark.parametrize("kind", WHOLES)
def test_the_encoder_of_a_larger_model(kind: str, tmp_path, encoder) -> None:
    expected = whole(kind, tmp_path, encoder)
    upstream = load_upstream(str(tmp_path))
    ours = upstream.model.state_dict()
    assert ours.keys() == expected.keys() and all(torch.equal(ours[name], expected[name]) for name in ours)
    other = build_upstream(upstream.spec())
    other.load_state_dict(upstream.state_dict())
    assert other.fingerprint() == upstream.fingerprint()


@pytest.mark.slow
@torch.inference_mode()
def test_qwen2_audio_attends_to_the_clip_alone(encoder) -> None:
    upstream, wave = load_upstream(str(encoder("qwen2_audio_encoder"))), noise(1.1, 16_000)
    features = AutoFeatureExtractor.from_pretrained(encoder("qwen2_audio_encoder"))(
        wave.numpy(), sampling_rate=16_000, return_tensors="pt", return_attention_mask=True
    )
    own = (int(features.attention_mask.sum()) - 1) // 2 + 1
    mask = torch.zeros(1, 1, 1500, 1500)  # as Qwen2AudioForConditionalGeneration makes it
    mask[..., own:] = -math.inf
    output = upstream.model(features.input_features, attention_mask=mask, output_hidden_states=True).hidden_states[1]
    states = upstream(WaveBatch.collate([wave], 16_000)).states
    assert states.shape[2] == own == 55
    torch.testing.assert_close(states[:, 1], output[:, :own], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_every_encoder_of_the_installed_transformers_is_in_the_contract() -> None:
    halves = {"mimi_encoder", "pocket_tts_audio_tokenizer_encoder", "vibevoice_acoustic_tokenizer_encoder"}
    wholes = {"nemotron3_diarization"}  # of nemotron3_diarization_audio
    found = {model_type for model_type in CONFIG_MAPPING if encoder_class(CONFIG_MAPPING[model_type]) is not None}
    assert found - {*TINY, *FAMILIES, *halves, *wholes} == set(), "a tiny config in tiny_encoders.py, please"


@pytest.mark.slow
@pytest.mark.parametrize(
    "model_type, class_name",
    [
        ("audioflamingo3", "AudioFlamingo3Encoder"),
        ("canary", "ParakeetEncoder"),
        ("csm", "MimiEncoderModel"),
        ("glmasr", "GlmAsrEncoder"),
        ("granite_speech", "GraniteSpeechCTCEncoder"),
        ("lasr_ctc", "LasrEncoder"),
        ("nemo_speechlm", "Nemotron3_5TranscribeAsrAudioModel"),
        ("moonshine_streaming", "MoonshineStreamingEncoder"),
        ("phi4_multimodal", "Phi4MultimodalAudioModel"),
        ("qwen2_5_omni", "Qwen2_5OmniAudioEncoder"),
        ("qwen3_omni_moe", "Qwen3OmniMoeAudioEncoder"),
        ("vibevoice_asr", "VibeVoiceAcousticTokenizerEncoderModel"),
        ("voxtral", "VoxtralEncoder"),
    ],
)
def test_which_part_is_the_encoder(model_type: str, class_name: str) -> None:
    assert find_encoder(AutoConfig.for_model(model_type), "it")[0].__name__ == class_name


# ---- What is refused, in a sentence.


def test_what_transformers_computes_in_numpy_is_no_graph(encoder) -> None:
    upstream = load_upstream(str(encoder("parakeet_encoder")))
    message = "cannot be exported to ONNX: transformers computes the input of this type outside PyTorch. .*wav2vec2"
    with pytest.raises(ValueError, match=message):
        upstream_graph(upstream)
    assert not can_replay(upstream, 1)


@pytest.mark.parametrize("model_type", ["bert", "llama", "vits", "fastspeech2_conformer", "univnet"])
def test_a_model_that_takes_no_audio(model_type: str, tmp_path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(ValueError, match=f"is a '{model_type}' model, not a speech upstream: none of its parts takes"):
        load_upstream(str(tmp_path))


def test_a_type_that_transformers_does_not_have(tmp_path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "whispr"}))
    with pytest.raises(ValueError, match="is a 'whispr' model.*has no such type. Did you mean 'whisper'?"):
        load_upstream(str(tmp_path))


def damaged(encoder, tmp_path: Path, **settings) -> Path:
    """A Parakeet whose preprocessor_config.json says something else."""
    shutil.copytree(encoder("parakeet_encoder"), tmp_path / "damaged")
    path = tmp_path / "damaged" / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return tmp_path / "damaged"


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"feature_extractor_type": "Evil"}, "names the feature extractor 'Evil', which is none of transformers"),
        ({"feature_extractor_type": "PreTrainedModel"}, "names the feature extractor 'PreTrainedModel'"),
        ({"feature_size": 10**9}, "says {'feature_size': 1000000000}, which no speech model asks for"),
        ({"feature_size": 12}, "gives no hidden states of a second of audio"),
        ({"sampling_rate": 3}, "asks for audio at 3 Hz"),
        ({"n_fft": "many"}, "makes no ParakeetFeatureExtractor: TypeError"),
    ],
)
def test_a_damaged_feature_extractor(settings, message: str, tmp_path, encoder) -> None:
    with pytest.raises(ValueError, match=message):
        load_upstream(str(damaged(encoder, tmp_path, **settings)))


def test_a_weight_that_is_missing_or_too_much(tmp_path, encoder) -> None:
    folder = damaged(encoder, tmp_path)
    state, path = load_file(folder / "model.safetensors"), folder / "model.safetensors"
    missing = next(name for name in state if name.endswith("layers.1.self_attn.q_proj.weight"))
    save_file({name: value for name, value in state.items() if name != missing}, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="missing: layers.1.self_attn.q_proj.weight"):
        load_upstream(str(folder))
    path.unlink()
    with pytest.raises(ValueError, match="Cannot read the weights of upstream"):
        load_upstream(str(folder))


def test_another_implementation_of_attention_in_a_part(tmp_path) -> None:
    config = {"model_type": "clap", "audio_config": {"attn_implementation": "someone/kernels"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="attn_implementation='someone/kernels', which is not allowed"):
        load_upstream(str(tmp_path))


def test_without_preprocessor_config_the_default_is_said(tmp_path, encoder, caplog) -> None:
    folder = damaged(encoder, tmp_path)
    (folder / "preprocessor_config.json").unlink()
    same = load_upstream(str(folder)).fingerprint() == load_upstream(str(encoder("parakeet_encoder"))).fingerprint()
    assert same and "taking the defaults of ParakeetFeatureExtractor" in caplog.text


def test_the_page_of_types_is_what_is_measured(encoder) -> None:
    page = (Path(__file__).parents[3] / "docs" / "encoders.md").read_text("utf-8")
    assert set(re.findall(r"^\| `([\w-]+)` \|", page, flags=re.M)) == {*TINY, *FAMILIES}, "make docs"
    for model_type in ("parakeet_encoder", "audio-spectrogram-transformer"):
        assert row(model_type, encoder(model_type)) in page, "make docs"


def test_every_type_here_is_none_of_the_families() -> None:
    assert not set(TINY) & set(FAMILIES)
