"""What is particular to a family: Whisper's encoder, checkpoints with a head, features that a file may ask for."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    LasrEncoderConfig,
    LasrFeatureExtractor,
    WhisperConfig,
    WhisperFeatureExtractor,
)

from undertone.upstream import WaveBatch, build_upstream, load_upstream
from undertone.upstream.hf.encoder import EncoderUpstream
from undertone.upstream.hf.families import FAMILIES
from undertone.upstream.hf.lasr import lasr_inputs
from undertone.upstream.hf.pretrained import read_config
from undertone.upstream.hf.random_weights import ARCHITECTURES, save_random
from undertone.upstream.hf.whisper import whisper_inputs
from undertone.upstream.store.extract import extract
from undertone.upstream.store.store import Store

RATE = 16_000
HEADS = {
    "tiny-data2vec": "Data2VecAudioForCTC",
    "tiny-unispeech": "UniSpeechForPreTraining",
    "tiny-unispeech-sat": "UniSpeechSatForSequenceClassification",
    "tiny-sew": "SEWForCTC",
    "tiny-sew-d": "SEWDForSequenceClassification",
    "tiny-conformer": "Wav2Vec2ConformerForPreTraining",
    "tiny-w2v-bert": "Wav2Vec2BertForCTC",
}


def noise(num_samples: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(num_samples, generator=torch.Generator().manual_seed(seed)) + 0.02


def with_head(architecture: str, name: str, folder: Path, **overrides):
    """A model with the head `name`, saved in `folder` beside the feature extractor's settings."""
    model_type, settings = ARCHITECTURES[architecture]
    codebook = {"codevector_dim": 16, "proj_codevector_dim": 16, "num_codevectors_per_group": 8}
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **({"vocab_size": 12} | codebook | settings | overrides))
    model = getattr(transformers, name)(config).eval()
    save_random(architecture, folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder)
    return model


def check_weights(upstream, base) -> None:
    """The upstream holds the weights of `base`, all of them and no others."""
    ours, theirs = upstream.model.state_dict(), base.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_every_family_has_a_tiny_architecture() -> None:
    tiny = {model_type for name, (model_type, _) in ARCHITECTURES.items() if name.startswith("tiny-")}
    assert tiny == set(FAMILIES)


@pytest.mark.parametrize("architecture", HEADS)
def test_a_checkpoint_with_a_head(architecture: str, tmp_path) -> None:
    model = with_head(architecture, HEADS[architecture], tmp_path)
    check_weights(load_upstream(str(tmp_path)), model.base_model)


def test_adapter_and_its_feed_forward_are_left_out_of_wav2vec2_bert(tmp_path) -> None:
    extras = {"add_adapter": True, "num_adapter_layers": 1, "output_hidden_size": 32}
    extras |= {"use_intermediate_ffn_before_adapter": True}
    model = with_head("tiny-w2v-bert", "Wav2Vec2BertForCTC", tmp_path, **extras).base_model
    upstream = load_upstream(str(tmp_path))
    model.adapter = model.intermediate_ffn = None
    check_weights(upstream, model)
    assert upstream(WaveBatch.collate([noise(16_000)], RATE)).states.shape == (1, 3, 49, 32)


@pytest.mark.parametrize("name", ["WhisperModel", "WhisperForConditionalGeneration", "WhisperForAudioClassification"])
def test_only_whispers_encoder_is_kept(name: str, tmp_path) -> None:
    model = with_head("tiny-whisper", name, tmp_path, vocab_size=16)
    upstream = load_upstream(str(tmp_path))
    check_weights(upstream, model.get_encoder() if name != "WhisperForAudioClassification" else model.encoder)
    assert not any("decoder" in key or "embed_tokens" in key for key in upstream.state_dict())


def test_a_weight_that_whispers_encoder_lacks_or_has_too_many(tmp_path) -> None:
    with_head("tiny-whisper", "WhisperForConditionalGeneration", tmp_path, vocab_size=16)
    state, path = load_file(tmp_path / "model.safetensors"), tmp_path / "model.safetensors"
    missing = "model.encoder.layers.1.fc1.weight"
    save_file({key: value for key, value in state.items() if key != missing}, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="missing: layers.1.fc1.weight"):
        load_upstream(str(tmp_path))
    save_file(state | {"model.encoder.layers.1.gate": torch.zeros(2)}, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="not of this architecture: .*layers.1.gate"):
        load_upstream(str(tmp_path))


@pytest.mark.parametrize("num_mels", [80, 128])
def test_whispers_input_is_its_feature_extractors(num_mels: int) -> None:
    waves = [noise(40_000, 1), torch.zeros(3000), noise(480_000, 2)]
    expected = WhisperFeatureExtractor(feature_size=num_mels)(
        [wave.numpy() for wave in waves], sampling_rate=RATE, return_tensors="pt"
    )["input_features"]
    batch = WaveBatch.collate(waves, RATE)
    config = WhisperConfig(num_mel_bins=num_mels)
    features = whisper_inputs(config, batch.samples, batch.lengths)["input_features"]
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("num_mels", [80, 128])
def test_lasrs_input_is_its_feature_extractors(num_mels: int) -> None:
    waves = [noise(40_000, 1), 1e-4 * noise(30_000, 3), torch.zeros(3000), noise(60_000, 2)]
    expected = LasrFeatureExtractor(feature_size=num_mels)(
        [wave.numpy() for wave in waves], sampling_rate=RATE, return_tensors="pt", return_attention_mask=True
    )
    batch = WaveBatch.collate(waves, RATE)
    found = lasr_inputs(LasrEncoderConfig(num_mel_bins=num_mels), batch.samples, batch.lengths)
    torch.testing.assert_close(found["input_features"], expected["input_features"], rtol=0, atol=1e-5)
    assert torch.equal(found["attention_mask"].bool(), expected["attention_mask"])


@torch.inference_mode()
def test_lasr_models_of_before_it_was_a_family_mean_the_same(tiny) -> None:
    """Fed by transformers' extractor, clip by clip, as all other encoders are; a spec of then makes it again."""
    folder = str(tiny("tiny-lasr"))
    upstream, before = load_upstream(folder), EncoderUpstream.from_pretrained(folder, None, read_config(folder, None))
    batch = WaveBatch.collate([noise(length, length) for length in (9000, 20_000, 4000)], RATE)
    states, expected = upstream(batch), before(batch)
    assert states.lengths.tolist() == expected.lengths.tolist()
    torch.testing.assert_close(states.states, expected.states, rtol=0, atol=1e-5)
    assert upstream.weights_hash() == before.weights_hash()
    rebuilt = build_upstream(before.spec())
    rebuilt.load_state_dict(before.state_dict())
    assert type(rebuilt) is type(upstream) and torch.equal(rebuilt(batch).states, states.states)


@torch.inference_mode()
def test_whisper_takes_thirty_seconds_and_no_more(tiny) -> None:
    upstream = load_upstream(str(tiny("tiny-whisper")))
    assert upstream(WaveBatch.collate([noise(480_000)], RATE)).lengths.tolist() == [1500]
    message = "takes at most 30 s at once, got 30.5 s. Cut it into windows of at most 30 s."
    with pytest.raises(ValueError, match=re.escape(message)):
        upstream(WaveBatch.collate([noise(8000), noise(488_000)], RATE))


def test_extraction_sets_aside_what_is_too_long_for_whisper(tiny, tmp_path) -> None:
    import soundfile

    upstream = load_upstream(str(tiny("tiny-whisper")))
    clips = []
    for name, seconds in (("short", 1), ("long", 31)):
        path = tmp_path / f"{name}.wav"
        soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, seconds * RATE), RATE)
        absent = dict.fromkeys(("start", "end", "video", "boxes"))
        clips.append(type("Clip", (), {"audio_hash": name, "path": path, "duration": seconds, **absent}))
    store = Store(tmp_path, upstream)
    report = extract(upstream, clips, store)
    assert report.computed == 1 and "short" in store
    [(path, reason)] = report.broken
    assert path.endswith("long.wav") and "takes at most 30 s at once, got 31.0 s" in reason


@pytest.mark.parametrize(
    "architecture, key, value", [("whisper", "hop_length", 320), ("w2v-bert", "stride", 1), ("lasr", "n_fft", 400)]
)
def test_other_features_than_ours_are_refused(architecture: str, key: str, value: int, tmp_path) -> None:
    path = save_random(f"tiny-{architecture}", tmp_path) / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(ValueError, match=f"says {{'{key}': {value}}} in its preprocessor_config.json"):
        load_upstream(str(tmp_path))


@pytest.mark.parametrize("architecture", ["tiny-whisper", "tiny-w2v-bert", "tiny-lasr"])
def test_features_need_no_preprocessor_config(architecture: str, tmp_path, caplog, tiny) -> None:
    (save_random(architecture, tmp_path) / "preprocessor_config.json").unlink()
    assert load_upstream(str(tmp_path)).fingerprint() == load_upstream(str(tiny(architecture))).fingerprint()
    assert not caplog.records


@pytest.mark.parametrize("architecture", ["tiny-conformer", "tiny-conformer-rotary"])
def test_training_after_an_evaluation_of_longer_sound(architecture: str, tiny) -> None:
    upstream = load_upstream(str(tiny(architecture)))
    upstream.model.encoder.embed_positions.max_len = 10  # so that the table grows within the evaluation
    if hasattr(upstream.model.encoder.embed_positions, "pe"):
        upstream.model.encoder.embed_positions.pe = torch.zeros(1, 19, 32)
    with torch.inference_mode():
        expected = upstream(WaveBatch.collate([noise(9000)], RATE)).states
    states = upstream(WaveBatch.collate([noise(9000)], RATE)).states
    states.sum().backward()
    torch.testing.assert_close(states, expected, rtol=0, atol=1e-6)
    upstream(WaveBatch.collate([noise(5000)], RATE)).states.sum().backward()


@torch.inference_mode()
def test_positions_follow_the_model_to_another_dtype(tiny) -> None:
    batch = WaveBatch.collate([noise(9000).double()], RATE)
    used, fresh = (load_upstream(str(tiny("tiny-conformer-rotary"))) for _ in range(2))
    used(WaveBatch.collate([noise(9000)], RATE))
    torch.testing.assert_close(used.double()(batch).states, fresh.double()(batch).states, rtol=0, atol=1e-12)
