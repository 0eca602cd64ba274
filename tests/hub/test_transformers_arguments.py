"""What users of transformers expect of our models: arguments that work or are refused, freezing, graphs."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForAudioClassification, Trainer, pipeline

import undertone.hub  # noqa: F401  # what is tested: it registers
from undertone.downstream.model import UndertoneModel
from undertone.downstream.task import Task
from undertone.inference.predict import Predictor
from undertone.tests.hub.test_to_transformers import make_model
from undertone.tests.hub.test_transformers_interfaces import Clips, arguments, collate
from undertone.training.config import RunConfig
from undertone.training.settings import save_config
from undertone.upstream import WaveBatch
from undertone.upstream.hf.random_weights import save_random

torch.set_num_threads(1)
EMOTION = Task("emotion", "classification", ("angry", "happy", "sad"))
GRAPHS = ["tiny-wav2vec2", "tiny-hubert", "tiny-wavlm"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    model = make_model(save_random("tiny-wav2vec2", folder / "base"), "attention", [EMOTION], mode="frozen")
    model.save_pretrained(folder / "model")
    return folder / "model"


@pytest.fixture
def inputs():
    """Three clips of other lengths in one batch, padded with zeros."""
    mask = (torch.arange(9000) < torch.tensor([[9000], [5000], [700]])).long()
    return 0.1 * torch.randn(3, 9000, generator=torch.Generator().manual_seed(0)) * mask, mask


@pytest.mark.parametrize("loader", [UndertoneModel, AutoModelForAudioClassification])
@pytest.mark.parametrize("dtype, expected", [(torch.bfloat16, torch.bfloat16), ("float16", torch.float16)])
def test_a_dtype_is_taken(folder, inputs, loader, dtype, expected):
    model = loader.from_pretrained(folder, dtype=dtype, device_map="cpu")
    assert {weight.dtype for weight in model.parameters()} == {expected}
    with torch.inference_mode():
        exact = UndertoneModel.from_pretrained(folder)(*inputs).logits.softmax(-1)
        found = model(*inputs).logits
        assert torch.equal(model(inputs[0].to(expected).float(), inputs[1]).logits.argmax(-1), found.argmax(-1))
    assert found.dtype == expected
    torch.testing.assert_close(found.float().softmax(-1), exact, atol=0.05, rtol=0)


def test_auto_is_float32_and_an_acoustic_upstream_has_no_other(folder, tmp_path):
    assert UndertoneModel.from_pretrained(folder, dtype="auto").dtype == torch.float32
    make_model("fbank", "attention", [EMOTION]).save_pretrained(tmp_path / "m")
    with pytest.raises(ValueError, match="dtype=torch.bfloat16 is for Hugging Face upstreams; 'fbank' computes its"):
        UndertoneModel.from_pretrained(tmp_path / "m", dtype=torch.bfloat16)


@pytest.mark.parametrize("device_map", ["cpu", "auto", {"": "cpu"}, torch.device("cpu")])
def test_a_device_map_names_one_device(folder, device_map):
    place = UndertoneModel.from_pretrained(folder, device_map=device_map).device.type
    assert place == ("cuda" if device_map == "auto" and torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("loader", [UndertoneModel, AutoModelForAudioClassification])
@pytest.mark.parametrize(
    "given, sentence",
    [
        ({"num_labels": 7}, "num_labels=7, but this model's task 'emotion' has 3 labels: angry, happy, sad. Leave"),
        ({"dtype": "int8"}, "dtype='int8': a model is loaded in float32, float16 or bfloat16."),
        ({"device_map": {"upstream": 0, "downstream": 1}}, "a model lies on one device. Give 'auto', 'cpu', 'cuda:0'"),
        ({"ignore_mismatched_sizes": True}, "UndertoneModel.from_pretrained takes no ignore_mismatched_sizes. It"),
        ({"quantization_config": {"bits": 4}}, "takes no quantization_config."),
    ],
)
def test_what_does_not_work_is_refused(folder, loader, given, sentence):
    with pytest.raises(ValueError, match=sentence):
        loader.from_pretrained(folder, **given)
    assert loader.from_pretrained(folder, num_labels=3).config.num_labels == 3


def test_hidden_states_and_tuples(folder, inputs):
    model = UndertoneModel.from_pretrained(folder)
    with torch.inference_mode():
        plain = model(*inputs)
        assert plain.hidden_states is None
        output = model(*inputs, output_hidden_states=True)
        assert len(output.hidden_states) == model.upstream.num_layers
        assert output.hidden_states[0].shape[::2] == (3, model.upstream.hidden_size)
        logits, states = model(*inputs, output_hidden_states=True, return_dict=False)
        assert torch.equal(logits, plain.logits) and torch.equal(states[-1], output.hidden_states[-1])
        for loader in (UndertoneModel, AutoModelForAudioClassification):
            asked = loader.from_pretrained(folder, output_hidden_states=True, return_dict=False)
            assert [type(part) for part in asked(*inputs)] == [torch.Tensor, tuple]
    with pytest.raises(TypeError, match="output_attentions"):
        model(*inputs, output_attentions=True)
    with pytest.raises(ValueError, match="input_values must be floats in .*, got torch.int16. Divide 16 bit integers"):
        model(torch.zeros(1, 900, dtype=torch.int16))


def test_a_run_says_where_its_model_is(tmp_path):
    save_config(RunConfig(corpus="emodb"), tmp_path / "config.json")
    for load in (AutoConfig.from_pretrained, AutoModelForAudioClassification.from_pretrained):
        with pytest.raises(ValueError, match=f"{tmp_path} is the folder of a run, .* in {tmp_path}/model: give that"):
            load(tmp_path)


def test_all_tasks_in_one_pipeline(tmp_path):
    tasks = [EMOTION, Task("arousal", "regression", ("arousal",), limits=(0.0, 1.0)),
             Task("valence", "regression", ("valence",), limits=(0.0, 1.0))]  # fmt: skip
    model = make_model(save_random("tiny-wav2vec2", tmp_path / "base"), "attention", tasks, scale=5)
    model.save_pretrained(tmp_path / "model")
    random = np.random.default_rng(0)
    waves = [(0.1 * random.standard_normal(length)).astype(np.float32) for length in (9000, 900, 16000)]
    every = pipeline("speech-emotion-recognition", model=str(tmp_path / "model"), device="cpu")
    rows = [Predictor(model).predict_wave(wave, 16000) for wave in waves]
    for found in (every(waves), every(waves, batch_size=3), [every(wave) for wave in waves]):
        for row, entry in zip(rows, found, strict=True):
            assert list(entry) == ["emotion", "arousal", "valence"]
            assert entry["emotion"]["label"] == row["emotion"]["label"]
            assert entry["emotion"]["scores"] == pytest.approx(row["emotion"]["scores"], abs=1e-4)
            assert [entry["arousal"], entry["valence"]] == pytest.approx([row["arousal"], row["valence"]], abs=1e-4)
    raw = [model.predict_batch(WaveBatch.collate([torch.from_numpy(wave)], 16000)).logits for wave in waves]
    values = torch.stack([torch.cat([one["arousal"], one["valence"]]) for one in raw])
    assert ((values < 0) | (values > 1)).any(), "else nothing is shown"
    assert all(0 <= row[name] <= 1 for row in rows for name in ("arousal", "valence"))
    with pytest.raises(ValueError, match="gives every score and takes no top_k"):
        every(waves[0], top_k=1)


def learning(module):
    return {name for name, weight in module.named_parameters() if weight.requires_grad}


def test_what_was_trained_frozen_stays_frozen_in_the_trainer(folder, tmp_path, caplog):
    model = UndertoneModel.from_pretrained(folder)
    assert model.config.mode == "frozen" and not learning(model.upstream) and learning(model.downstream)
    before = {name: value.clone() for name, value in model.upstream.state_dict().items()}
    args = arguments(tmp_path, max_steps=2, save_strategy="no")
    with caplog.at_level(logging.WARNING, "undertone"):
        Trainer(model, args, data_collator=collate, train_dataset=Clips(6)).train()
    assert caplog.text.count("was frozen in its training and stays frozen here") == 1
    assert all(torch.equal(value, before[name]) for name, value in model.upstream.state_dict().items())
    assert not any(module.training for module in model.upstream.model.modules() if list(module.parameters()))
    model.unfreeze_base_model()
    assert learning(model.upstream) and model.config.mode == "finetune"
    Trainer(model, args, data_collator=collate, train_dataset=Clips(6)).train()
    assert not all(torch.equal(value, before[name]) for name, value in model.upstream.state_dict().items())
    model.save_pretrained(tmp_path / "m")
    again = UndertoneModel.from_pretrained(tmp_path / "m")
    assert learning(again.upstream), "it was unfrozen, and says so"


def test_parts_can_be_frozen(folder):
    model = UndertoneModel.from_pretrained(folder)
    model.unfreeze_base_model()
    model.freeze_feature_encoder()
    assert learning(model.upstream) and not learning(model.upstream.model.feature_extractor)
    model.train()
    assert not any(module.training for module in model.upstream.model.feature_extractor.modules())
    assert model.upstream.model.encoder.layers[0].training
    model.freeze_base_model()
    assert not learning(model.upstream) and learning(model.downstream)
    with pytest.raises(ValueError, match=r"freeze_feature_encoder\(\) is for Hugging Face upstreams; 'fbank' computes"):
        make_model("fbank", "attention", [EMOTION]).freeze_feature_encoder()


def test_gradient_checkpointing_gives_the_same_gradients(folder, inputs, tmp_path):
    model = UndertoneModel.from_pretrained(folder)
    model.unfreeze_base_model()
    gradients = []
    for checkpointed in (False, True):
        if checkpointed:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            assert model.is_gradient_checkpointing
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout | torch.nn.Dropout1d):
                module.p = 0.0
            elif isinstance(getattr(module, "dropout", None), float):  # of attention weights
                module.dropout = 0.0
        model.zero_grad()
        model(*inputs, labels=torch.tensor([0, 1, 2])).loss.backward()
        gradients.append(model.upstream.model.encoder.layers[0].attention.q_proj.weight.grad.clone())
    torch.testing.assert_close(gradients[1], gradients[0])
    assert gradients[0].abs().max() > 0
    args = arguments(tmp_path, max_steps=1, save_strategy="no", gradient_checkpointing=True)
    Trainer(model, args, data_collator=collate, train_dataset=Clips(6)).train()
    with pytest.raises(ValueError, match="Gradient checkpointing is for Hugging Face upstreams"):
        make_model("fbank", "attention", [EMOTION]).gradient_checkpointing_enable()


@pytest.mark.slow
@pytest.mark.parametrize("head", ["linear", "attention"])
@pytest.mark.parametrize("name", GRAPHS)
def test_one_graph_holds_for_every_batch(name, head, inputs, tmp_path):
    """`fullgraph` refuses a graph break; the exported program is given another batch size and length."""
    model = make_model(save_random(name, tmp_path / "base"), head, [EMOTION])
    other = 0.1 * torch.randn(2, 16000, generator=torch.Generator().manual_seed(1)), torch.ones(2, 16000).long()
    other[1][1, 4000:] = 0
    batch, length = torch.export.Dim("batch", min=1, max=64), torch.export.Dim("length", min=1600, max=480_000)
    shapes = dict.fromkeys(("input_values", "attention_mask"), {0: batch, 1: length})
    with torch.no_grad():
        expected, expected_other = model(*inputs).logits, model(*other).logits
        compiled = torch.compile(model, fullgraph=True, backend="eager")(*inputs).logits
        exported = torch.export.export(model, inputs, dynamic_shapes=shapes, strict=False).module()
        torch.testing.assert_close(compiled, expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(exported(*inputs).logits, expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(exported(*other).logits, expected_other, atol=1e-5, rtol=0)
    assert np.ptp(expected.numpy(), axis=0).max() > 0.01, "else any answer would do"
