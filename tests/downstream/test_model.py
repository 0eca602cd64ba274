"""The saved model: round trips, refusals, transformers' interfaces, and transformers' own head as reference."""

import copy
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForAudioClassification, Wav2Vec2ForSequenceClassification

from undertone.downstream.config import UndertoneConfig
from undertone.downstream.model import UndertoneModel
from undertone.downstream.task import Task
from undertone.tests.upstream.hf.tiny_encoders import save_tiny
from undertone.upstream import WaveBatch, load_upstream
from undertone.upstream.hf.random_weights import save_random

TASKS = [
    Task("emotion", "classification", ("angry", "happy", "sad")).to_dict(),
    Task("gender", "classification", ("female", "male")).to_dict(),
]


def config_of(upstream, head="attention", tasks=TASKS, **fields) -> UndertoneConfig:
    return UndertoneConfig(
        upstream=upstream.spec(), upstream_hash=upstream.weights_hash(), head=head, tasks=tasks, **fields
    )


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "tiny"
    save_random("tiny-wav2vec2", folder)
    return folder


@pytest.fixture
def model(tiny):
    torch.manual_seed(0)
    upstream = load_upstream(str(tiny))
    return UndertoneModel(config_of(upstream), upstream).eval()


def waves(*lengths: int) -> WaveBatch:
    generator = torch.Generator().manual_seed(0)
    return WaveBatch.collate([0.1 * torch.randn(length, generator=generator) for length in lengths], 16000)


@pytest.mark.parametrize("head_only", [False, True])
def test_saved_and_loaded_gives_the_same_logits_bit_for_bit(model, tmp_path, head_only):
    model.save_pretrained(tmp_path / "m", head_only=head_only)
    names = load_file(tmp_path / "m" / "model.safetensors").keys()
    assert any(name.startswith("upstream.") for name in names) != head_only
    again = UndertoneModel.from_pretrained(tmp_path / "m")
    batch = waves(16000, 4000)
    for task, logits in model.predict_batch(batch).logits.items():
        assert torch.equal(again.predict_batch(batch).logits[task], logits)
    assert again.tasks == model.tasks and again.config.id2label == {0: "angry", 1: "happy", 2: "sad"}


@pytest.mark.parametrize("name", ["fbank", "mfcc", "spectrogram"])
def test_a_model_on_an_acoustic_upstream_survives_saving(name, tmp_path):
    upstream = load_upstream(name)
    model = UndertoneModel(config_of(upstream, layer_norm=True), upstream)
    model.save_pretrained(tmp_path / "m")
    again = UndertoneModel.from_pretrained(tmp_path / "m")
    expected, found = (item.predict_batch(waves(9000, 400)).logits["emotion"] for item in (model, again))
    assert torch.equal(found, expected)


def test_a_missing_or_unexpected_weight_is_an_error(model, tmp_path):
    model.save_pretrained(tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    state = load_file(path)
    gone = "downstream.head.outputs.layers.task_emotion.weight"
    save_file({key: value for key, value in state.items() if key != gone}, path)
    with pytest.raises(ValueError, match=f"missing: {gone}"):
        UndertoneModel.from_pretrained(tmp_path / "m")
    save_file(state | {"downstream.extra": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="unexpected: downstream.extra"):
        UndertoneModel.from_pretrained(tmp_path / "m")
    save_file(state | {gone: torch.zeros(7, 2)}, path)
    with pytest.raises(ValueError, match=f"of another shape: {gone}"):
        UndertoneModel.from_pretrained(tmp_path / "m")


def test_a_folder_without_a_model_says_what_is_missing(tmp_path):
    with pytest.raises(ValueError, match="No model in .*looked for config.json"):
        UndertoneModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("head_only", [False, True])
def test_a_model_on_an_encoder_with_a_feature_extractor_of_its_own(tmp_path, head_only):
    upstream = load_upstream(str(save_tiny("parakeet_encoder", tmp_path / "upstream")))
    model = UndertoneModel(config_of(upstream), upstream).eval()
    model.save_pretrained(tmp_path / "m", head_only=head_only)
    again, batch = UndertoneModel.from_pretrained(tmp_path / "m"), waves(16000, 4000)
    for task, logits in model.predict_batch(batch).logits.items():
        assert torch.equal(again.predict_batch(batch).logits[task], logits)
    path = tmp_path / "m" / "config.json"
    config = json.loads(path.read_text())
    config["upstream"]["extractor"]["feature_size"] = 40
    path.write_text(json.dumps(config))
    refused = "extractor .*'feature_size': 40" if head_only else "gives no hidden states of a second of audio"
    with pytest.raises(ValueError, match=refused):
        UndertoneModel.from_pretrained(tmp_path / "m")


def test_a_head_only_folder_refuses_an_upstream_with_other_weights(model, tiny, tmp_path):
    moved = tmp_path / "upstream"
    shutil.copytree(tiny, moved)
    upstream = load_upstream(str(moved))
    UndertoneModel(config_of(upstream), upstream).save_pretrained(tmp_path / "m", head_only=True)
    shutil.rmtree(moved)
    save_random("tiny-wav2vec2", moved, seed=1)
    with pytest.raises(
        ValueError, match="trained on another upstream than .*: weights [0-9a-f]{12}, not [0-9a-f]{12}. Use the self"
    ):
        UndertoneModel.from_pretrained(tmp_path / "m")


def test_code_from_outside_is_refused_until_allowed(model, tmp_path):
    model.save_pretrained(tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"head": "os:system"}))
    with pytest.raises(
        ValueError, match="code from outside undertone. If you trust it, give --allow os, in Python allow=\\('os',\\)"
    ):
        UndertoneModel.from_pretrained(tmp_path / "m")


def test_auto_model_and_labels_work_as_transformers_expects(model, tmp_path):
    model.save_pretrained(tmp_path / "m")
    auto = AutoModelForAudioClassification.from_pretrained(tmp_path / "m")
    batch = waves(8000, 5000)
    mask = (torch.arange(8000) < batch.lengths[:, None]).long()
    output = auto(input_values=batch.samples, attention_mask=mask, labels=torch.tensor([2, 0]))
    expected = model.predict_batch(batch).logits["emotion"]
    torch.testing.assert_close(output.logits, expected)
    torch.testing.assert_close(output.loss, torch.nn.functional.cross_entropy(expected, torch.tensor([2, 0])))


def test_linear_head_equals_transformers_sequence_classification(tiny):
    """`Wav2Vec2ForSequenceClassification(use_weighted_layer_sum=True)` given the same weights, one clip at a time."""
    torch.manual_seed(0)
    reference = Wav2Vec2ForSequenceClassification.from_pretrained(
        tiny, use_weighted_layer_sum=True, num_labels=3, classifier_proj_size=16
    ).eval()
    reference.layer_weights.data = torch.randn_like(reference.layer_weights)
    upstream = load_upstream(str(tiny))
    ours = UndertoneModel(config_of(upstream, "linear", TASKS[:1], head_options={"hidden_size": 16}), upstream).eval()
    ours.downstream.layer_sum.logits.data = reference.layer_weights.data
    ours.downstream.head.projector.load_state_dict(reference.projector.state_dict())
    ours.downstream.head.outputs.layers["task_emotion"].load_state_dict(reference.classifier.state_dict())
    for length in (16000, 3000):
        samples = waves(length).samples
        normalised = (samples - samples.mean()) / (samples.var(correction=0) + 1e-7).sqrt()
        with torch.inference_mode():
            expected = reference(normalised if upstream.spec()["do_normalize"] else samples).logits
        torch.testing.assert_close(ours.predict_batch(waves(length)).logits["emotion"], expected, atol=1e-5, rtol=0)


def test_a_temperature_divides_the_logits_and_is_saved(tmp_path):
    torch.manual_seed(0)
    upstream = load_upstream("fbank")
    tasks = [Task("emotion", "classification", ("a", "b", "c")).to_dict()]
    settings = {"upstream": upstream.spec(), "upstream_hash": upstream.weights_hash(), "tasks": tasks}
    plain = UndertoneModel(UndertoneConfig(**settings), upstream).eval()
    calibration = {"emotion": {"temperature": 2.5, "unsure_below": 0.4, "num_dev": 30}}
    model = UndertoneModel(UndertoneConfig(**settings, calibration=calibration), upstream).eval()
    model.load_state_dict(plain.state_dict())
    model.save_pretrained(tmp_path / "model")
    loaded = UndertoneModel.from_pretrained(tmp_path / "model")
    assert loaded.config.calibration == calibration
    wave = torch.randn(1, 16_000) * 0.1
    torch.testing.assert_close(loaded(wave).logits, plain(wave).logits / 2.5)
    path = tmp_path / "model" / "config.json"
    good = path.read_text()
    for bad in ('"temperature": 0', '"temperature": "x"'):
        path.write_text(good.replace('"temperature": 2.5', bad))
        with pytest.raises(ValueError, match="calibration.emotion.temperature"):
            UndertoneModel.from_pretrained(tmp_path / "model")
    path.write_text(good.replace('"calibration": {\n    "emotion"', '"calibration": {\n    "other"'))
    with pytest.raises(ValueError, match="calibration of 'other'"):
        UndertoneModel.from_pretrained(tmp_path / "model")


@pytest.mark.parametrize("name", ["tiny-conformer", "tiny-hubert-batch"])
def test_a_copy_of_an_upstream_keeps_its_batch_norms(name, tmp_path):
    """As a fine-tuned upstream is copied before it is saved; transformers would draw its norms again."""
    upstream = copy.deepcopy(load_upstream(str(save_random(name, tmp_path / "upstream"))))
    for norm in upstream.modules():
        if isinstance(norm, torch.nn.BatchNorm1d):
            for tensor in (norm.weight.data, norm.bias.data, norm.running_mean):
                tensor.normal_()
    before = copy.deepcopy(upstream.state_dict())
    assert any(key.endswith("running_mean") for key in before)
    tasks = [Task("emotion", "classification", ("angry", "sad")).to_dict()]
    config = UndertoneConfig(upstream=upstream.spec(), upstream_hash=upstream.weights_hash(), tasks=tasks)
    UndertoneModel(config, upstream).save_pretrained(tmp_path / "model")
    saved = UndertoneModel.from_pretrained(tmp_path / "model").upstream.state_dict()
    assert [key for key in before if not torch.equal(before[key], saved[key])] == []
