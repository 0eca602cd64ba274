"""Hidden states against transformers' own model, unpadded, one utterance at a time."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from transformers import AutoModel, Wav2Vec2FeatureExtractor

from undertone.upstream import HiddenStates, WaveBatch, build_upstream, load_upstream
from undertone.upstream.hf import normalize
from undertone.upstream.random_weights import ARCHITECTURES, save_random

RATE = 16_000
TINY = [name for name in ARCHITECTURES if name.startswith("tiny-")]


def noise(num_samples: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(num_samples, generator=generator) + 0.02


def run(upstream, wave: torch.Tensor) -> HiddenStates:
    with torch.inference_mode():
        return upstream(WaveBatch.collate([wave], RATE))


@pytest.mark.parametrize("architecture", TINY)
@pytest.mark.parametrize("num_samples", [400, 4321, 20_000])
def test_same_as_transformers(architecture: str, num_samples: int, tiny) -> None:
    folder = tiny(architecture)
    upstream = load_upstream(str(folder))
    inputs = Wav2Vec2FeatureExtractor.from_pretrained(folder)(
        noise(num_samples).numpy(), sampling_rate=RATE, return_tensors="pt"
    )
    with torch.inference_mode():
        expected = AutoModel.from_pretrained(folder)(inputs.input_values, output_hidden_states=True)
    layers = [*expected.hidden_states[:-1], expected.last_hidden_state]  # as published: the last one after its norm
    output = run(upstream, noise(num_samples))
    assert upstream.num_layers == len(layers) == upstream.model.config.num_hidden_layers + 1
    torch.testing.assert_close(output.states, torch.stack(layers, 1), rtol=0, atol=1e-5)


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


def test_train_mode_keeps_every_layer_and_masks_nothing(tiny) -> None:
    upstream = load_upstream(str(tiny("tiny-wav2vec2"))).train()
    config = upstream.model.config
    assert (config.layerdrop, config.apply_spec_augment) == (0.0, False)
    for module in upstream.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    config.attention_dropout = 0.0
    for layer in upstream.model.encoder.layers:
        layer.attention.dropout = 0.0
    states = run(upstream, noise(3000)).states  # SpecAugment would raise on so short a clip
    torch.testing.assert_close(states, run(upstream.eval(), noise(3000)).states)


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


def test_masked_norms_keep_the_state_dict(tiny) -> None:
    for architecture in ("tiny-wav2vec2", "tiny-hubert-batch"):
        plain = AutoModel.from_pretrained(tiny(architecture)).state_dict()
        ours = load_upstream(str(tiny(architecture))).model.state_dict()
        assert list(plain) == list(ours)
        assert all(torch.equal(plain[name], ours[name]) for name in plain)


def test_fingerprint_follows_weights_and_settings(tiny) -> None:
    upstream = load_upstream(str(tiny("tiny-wav2vec2")))
    first = upstream.fingerprint()
    assert first == upstream.fingerprint() == load_upstream(str(tiny("tiny-wav2vec2"))).fingerprint()
    upstream.do_normalize = False
    upstream._fingerprint = None
    assert upstream.fingerprint() != first
    upstream.do_normalize, upstream._fingerprint = True, None
    with torch.no_grad():
        upstream.model.encoder.layers[0].final_layer_norm.bias[3] += 1e-3
    changed = upstream.fingerprint()
    assert changed != first
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
