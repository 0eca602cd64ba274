"""Hidden states against transformers' own model, unpadded, one utterance at a time."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor, AutoModel, SeamlessM4TFeatureExtractor, Wav2Vec2FeatureExtractor

from undertone.upstream import HiddenStates, WaveBatch, build_upstream, load_upstream
from undertone.upstream.hf.random_weights import ARCHITECTURES, save_random
from undertone.upstream.hf.upstream import normalize

RATE = 16_000
TINY = [name for name in ARCHITECTURES if name.startswith("tiny-")]


def noise(num_samples: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(num_samples, generator=generator) + 0.02


def run(upstream, wave: torch.Tensor) -> HiddenStates:
    with torch.inference_mode():
        return upstream(WaveBatch.collate([wave], RATE))


def filterbank_features(wave: torch.Tensor) -> torch.Tensor:
    """(1, T, 160) of `SeamlessM4TFeatureExtractor`, its mean and variance in float64.

    Those it takes in float32, of values of about 10, are off by up to 1e-5, and so are then the hidden states.
    """
    extract = SeamlessM4TFeatureExtractor()
    as_given = extract(wave.numpy(), sampling_rate=RATE)["input_features"]
    logs = extract._extract_fbank_features(wave.numpy()).astype(np.float64)  # (F, 80)
    features = (logs - logs.mean(0)) / np.sqrt(logs.var(0, ddof=1) + 1e-7)
    features = np.pad(features, ((0, len(features) % 2), (0, 0))).reshape(1, -1, 160)
    np.testing.assert_allclose(as_given, features, rtol=0, atol=1e-4)
    return torch.from_numpy(features).float()


def reference(folder: Path, wave: torch.Tensor) -> torch.Tensor:
    """(1, L, T, D) of transformers' own feature extractor and model, as published before transformers 5."""
    model = AutoModel.from_pretrained(folder)
    kind, num_samples = model.config.model_type, len(wave)
    if kind == "lasr_encoder":  # its first frame takes 13 filterbank frames, which it does not fill up itself
        wave = torch.nn.functional.pad(wave, (0, max(0, 400 + 12 * 160 - num_samples)))
    inputs = AutoFeatureExtractor.from_pretrained(folder)(wave.numpy(), sampling_rate=RATE, return_tensors="pt")
    if kind == "wav2vec2-bert":
        inputs["input_features"] = filterbank_features(wave)
    model = model.encoder if kind == "whisper" else model
    with torch.inference_mode():
        output = model(**inputs, output_hidden_states=True)
    layers = [*output.hidden_states[:-1], output.last_hidden_state]  # the last one after its norm
    if kind in ("sew", "sew-d", "wav2vec2-bert"):
        layers = output.hidden_states
    num_frames = layers[0].shape[1]
    if kind == "whisper":
        assert num_frames == 1500
        num_frames = math.ceil(num_samples / 320)
    if kind == "wav2vec2-bert":
        num_frames = int(inputs.attention_mask.sum())
    return torch.stack([layer[:, :num_frames] for layer in layers], 1)


@pytest.mark.parametrize("architecture", TINY)
@pytest.mark.parametrize(
    "num_samples", [800, 20_161, *(pytest.param(number, marks=pytest.mark.slow) for number in (4321, 20_160))]
)
def test_same_as_transformers(architecture: str, num_samples: int, tiny) -> None:
    folder = tiny(architecture)
    upstream = load_upstream(str(folder))
    expected = reference(folder, noise(num_samples))
    assert upstream.num_layers == expected.shape[1] == upstream.model.config.num_hidden_layers + 1
    torch.testing.assert_close(run(upstream, noise(num_samples)).states, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", ["tiny-wav2vec2-layer", "tiny-wavlm-layer"])
def test_the_last_hidden_state_is_after_the_final_layer_norm(architecture: str, tiny) -> None:
    upstream = load_upstream(str(tiny(architecture)))
    outputs = []
    upstream.model.encoder.layer_norm.register_forward_hook(lambda module, args, output: outputs.append(output))
    states = run(upstream, noise(8000)).states
    torch.testing.assert_close(states[:, -1], outputs[0], rtol=0, atol=0)


def test_normalize_is_the_feature_extractors() -> None:
    waves = [noise(n, n) for n in (5000, 317, 16_000, 1)]
    batch = WaveBatch.collate(waves, RATE)
    padding = torch.arange(16_000)[None] >= batch.lengths[:, None]
    result = normalize(batch.samples + 3.0 * padding, batch.lengths)
    for row, wave in zip(result, waves, strict=True):
        expected = Wav2Vec2FeatureExtractor.zero_mean_unit_var_norm([wave.numpy()], None)[0]
        np.testing.assert_allclose(row[: len(wave)].numpy(), expected, atol=2e-6)
        assert not row[len(wave) :].any()


def without_dropout(module: torch.nn.Module) -> None:
    """Every rate of dropout, a module's or a number's, is 0."""
    for child in module.modules():
        for name in ("p", "drop_prob", "dropout", "attention_dropout", "activation_dropout"):
            if isinstance(getattr(child, name, None), float):
                setattr(child, name, 0.0)
    module.model.config.attention_dropout = 0.0


@pytest.mark.parametrize("architecture", TINY)
def test_train_mode_keeps_every_layer_and_masks_nothing(architecture: str, tiny) -> None:
    upstream = load_upstream(str(tiny(architecture)))
    batch = WaveBatch.collate([noise(3000, 1), noise(5000, 2)], RATE)  # SpecAugment would raise on so short clips
    with torch.no_grad():
        expected = upstream(batch).states
        before = {name: value.clone() for name, value in upstream.state_dict().items()}
        for _ in range(8):  # layerdrop would take a layer in most of them
            assert upstream.train()(batch).states.shape == expected.shape
        without_dropout(upstream)
        torch.testing.assert_close(upstream(batch).states, expected, rtol=0, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in upstream.state_dict().items())


@pytest.mark.parametrize("architecture", TINY)
def test_every_used_parameter_learns_after_an_evaluation_of_the_same_length(architecture: str, tiny) -> None:
    upstream = load_upstream(str(tiny(architecture)))
    run(upstream, noise(5000))
    states = upstream.train()(WaveBatch.collate([noise(5000)], RATE)).states
    states.square().sum().backward()
    for name in (*upstream.family.front_end, upstream.family.blocks):
        for key, parameter in upstream.model.get_submodule(name).named_parameters():
            if not key.endswith(("k_proj.bias", "linear_k.bias")):  # a softmax does not see it
                assert parameter.grad is not None and parameter.grad.any(), f"{name}.{key}"


@pytest.mark.parametrize("architecture", TINY)
def test_the_named_blocks_and_projections_are_what_runs(architecture: str, tiny) -> None:
    upstream = load_upstream(str(tiny(architecture)))
    family, called = upstream.family, []
    blocks = list(upstream.model.get_submodule(family.blocks))
    assert len(blocks) == upstream.num_layers - 1
    inside = {
        name: [module for key, module in block.named_modules() if key.split(".")[-1] == name]
        for block in blocks
        for name in family.lora_targets
    }
    watched = [*blocks, *(module for found in inside.values() for module in found)]
    for module in watched:
        module.register_forward_hook(lambda module, args, output: called.append(module))
    run(upstream, noise(5000))
    assert all(len(found) == 1 and isinstance(found[0], torch.nn.Linear) for found in inside.values())
    assert all(module in called for module in watched), "a LoRA adapter around one that is not called does nothing"
    assert [module for module in called if module in blocks] == blocks, "the first one first"


@pytest.mark.parametrize("architecture", TINY)
def test_the_front_end_is_every_convolution_before_the_blocks(architecture: str, tiny) -> None:
    upstream = load_upstream(str(tiny(architecture)))
    strided = {
        name
        for name, module in upstream.model.named_modules()
        if isinstance(module, torch.nn.Conv1d) and "pos_conv_embed" not in name and upstream.family.blocks not in name
    }
    assert all(name.startswith(upstream.family.front_end) for name in strided)
    assert bool(strided) == bool(upstream.family.front_end) == (upstream.model.config.model_type != "wav2vec2-bert")


def test_a_loaded_upstream_is_in_eval_mode_and_repeats_itself(tiny) -> None:
    upstream = load_upstream(str(tiny("tiny-wavlm")))
    assert not any(module.training for module in upstream.modules())
    assert torch.equal(run(upstream, noise(9000)).states, run(upstream, noise(9000)).states)


@pytest.mark.parametrize("architecture", TINY)
def test_spec_and_state_rebuild_the_upstream(architecture: str, tiny) -> None:
    upstream = load_upstream(str(tiny(architecture)))
    other = build_upstream(upstream.spec())
    assert other.fingerprint() != upstream.fingerprint()
    other.load_state_dict(upstream.state_dict())
    assert other.fingerprint() == upstream.fingerprint()
    assert other.random_weights and not other.training
    assert torch.equal(run(other, noise(9000)).states, run(upstream, noise(9000)).states)


def test_spec_holds_no_path_beyond_the_name_and_is_json(tiny) -> None:
    spec = load_upstream(str(tiny("tiny-hubert"))).spec()
    folder = spec.pop("name")
    assert folder not in json.dumps(spec, allow_nan=False)
    assert spec["kind"] == "hf" and spec["config"]["model_type"] == "hubert" and spec["sample_rate"] == RATE


@pytest.mark.parametrize("architecture", TINY)
def test_masking_keeps_the_state_dict(architecture: str, tiny) -> None:
    model = AutoModel.from_pretrained(tiny(architecture))
    plain = (model.encoder if model.config.model_type == "whisper" else model).state_dict()
    ours = load_upstream(str(tiny(architecture))).model.state_dict()
    assert list(plain) == list(ours)
    assert all(torch.equal(plain[name], ours[name]) for name in plain)


def test_fingerprint_follows_weights_and_settings(tiny) -> None:
    upstream = load_upstream(str(tiny("tiny-wav2vec2")))
    first = upstream.fingerprint()
    assert first == upstream.fingerprint() == load_upstream(str(tiny("tiny-wav2vec2"))).fingerprint()
    upstream.do_normalize = False
    assert upstream.fingerprint() != first
    upstream.do_normalize = True
    with torch.no_grad():
        upstream.model.encoder.layers[0].final_layer_norm.bias[3] += 1e-3
    changed = upstream.fingerprint()
    assert changed != first
    upstream.model.encoder.layers[0].attention.q_proj.weight.data += 1e-3  # as PEFT merges: torch counts no change
    assert upstream.fingerprint() not in (first, changed)
    changed = upstream.fingerprint()
    with torch.no_grad():
        upstream.model.masked_spec_embed += 1
    assert upstream.fingerprint() == changed, "SpecAugment's vector decides no hidden state"


def test_random_weights_depend_on_the_seed_and_leave_the_generator_alone(tmp_path) -> None:
    before = torch.get_rng_state()
    folders = [save_random("tiny-wav2vec2", tmp_path / str(i), seed=seed) for i, seed in enumerate((0, 0, 1))]
    assert torch.equal(torch.get_rng_state(), before)
    prints = [load_upstream(str(folder)).fingerprint() for folder in folders]
    assert prints[0] == prints[1] != prints[2]
    with pytest.raises(ValueError, match="Unknown architecture 'wavlm-bse'. Did you mean 'wavlm-base'?"):
        save_random("wavlm-bse", tmp_path / "x")
