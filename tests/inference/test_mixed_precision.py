"""Saved models in bf16 and int8: the upstream computes as a run's does, whatever shares a batch; scores stay close."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import undertone as undertone_package
from undertone.audio.read import read_audio
from undertone.common.console import Display
from undertone.downstream.config import UndertoneConfig
from undertone.downstream.model import UndertoneModel
from undertone.downstream.transformers_model import TransformersModel
from undertone.experiments.bench_extraction import precisions
from undertone.experiments.crossval import crossval
from undertone.experiments.hidden_states import extract_corpus
from undertone.experiments.open_run import open_run
from undertone.inference import predict
from undertone.inference.predict import Predictor, load_model
from undertone.tests.cli.commands import undertone
from undertone.tests.hub.test_to_transformers import TASKS, make_model
from undertone.tests.inference.test_transformers_models import save_classifier
from undertone.training.accelerator import with_precision
from undertone.training.settings import make_config
from undertone.upstream import WaveBatch, linear_layers, load_upstream
from undertone.upstream.hf.random_weights import save_random
from undertone.upstream.linear_layers import has_int8, int8_layers
from undertone.upstream.precision import in_precision, keep_in_precision, native_precision
from undertone.upstream.streams import Streams

CPU = torch.device("cpu")
INT8 = pytest.mark.skipif(not has_int8(), reason="torch has no integer products of oneDNN here")
FEW = ["bf16", pytest.param("int8", marks=INT8)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model on a small Transformer."""
    where = tmp_path_factory.mktemp("precision")
    make_model(save_random("tiny-wav2vec2", where / "upstream"), "attention", TASKS).save_pretrained(where / "model")
    return where / "model"


def precision_of(predictor: Predictor) -> str:
    return predictor.model.upstream.precision


def embeddings(rows: list[dict]) -> np.ndarray:
    """(N, E)."""
    return np.array([row["embedding"] for row in rows])


@pytest.mark.parametrize("precision", FEW)
def test_the_upstream_computes_as_in_a_run_and_the_head_in_float32(folder, files, precision):
    exact, model = load_model(folder, device="cpu"), load_model(folder, device="cpu", mixed_precision=precision)
    found = embeddings(model.predict(files, embeddings=True))
    expected = []
    for file in files:
        batch = WaveBatch.collate([read_audio(file, 16_000)], 16_000)
        with torch.inference_mode():
            with in_precision(exact.model.upstream, CPU, precision):
                hidden = exact.model.upstream(batch)
            expected.append(exact.model.downstream(hidden.to(CPU, torch.float32)).embedding[0].numpy())
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    exactly = embeddings(exact.predict(files, embeddings=True))
    assert 1e-4 < np.abs(found - exactly).max() / np.abs(exactly).max() < 0.1
    assert f"mixed precision: {precision}" in repr(model) and "mixed precision" not in repr(exact)


@pytest.mark.parametrize(("precision", "close"), [("bf16", 2e-3), pytest.param("int8", 0.01, marks=INT8)])
def test_batches_threads_windows_streams_and_packed_weights_change_nothing(
    folder, files, precision, close, monkeypatch
):
    exact, model = (load_model(folder, device="cpu", mixed_precision=one) for one in ("no", precision))
    alone = embeddings([model.predict(file, embeddings=True)[0] for file in files])
    float32 = embeddings(exact.predict(files, embeddings=True))
    size = np.abs(float32).max()
    for found in (
        embeddings(model.predict(files, batch_seconds=60, embeddings=True)),
        embeddings(list(model.predict_each(files, embeddings=True))),
    ):
        np.testing.assert_allclose(found, alone, rtol=0, atol=close * size)
        assert np.abs(found - float32).max() > 2 * np.abs(found - alone).max(), "else it could be float32's"
    monkeypatch.setattr(predict, "PACKED_FROM", 0.1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)  # two twins of the model at work
    np.testing.assert_allclose(embeddings(model.predict(files, embeddings=True)), alone, atol=1e-5)
    monkeypatch.undo()
    (row,) = model.predict(files[0])
    (window,) = model.predict_long(files[0], window=2.5, hop=2.5).rows
    stream = model.stream(16_000, window=2.5, hop=2.5)
    pushed = [*stream.push(read_audio(files[0], 16_000).numpy()), *stream.close()]
    for found in (window, pushed[0], model.predict_wave(read_audio(files[0], 16_000), 16_000)):
        assert found["emotion"]["scores"] == pytest.approx(row["emotion"]["scores"], abs=1e-5)


@pytest.mark.parametrize("precision", FEW)
def test_each_of_several_streams_computes_in_it(folder, tmp_path, files, precision):
    upstream = Streams({"a": load_upstream(str(folder.parent / "upstream")), "b": load_upstream("fbank")})
    config = UndertoneConfig(
        upstream=upstream.spec(), head="attention", fusion="concat", tasks=[task.to_dict() for task in TASKS]
    )
    UndertoneModel(config, upstream).save_pretrained(tmp_path / "model")
    exact, model = (load_model(tmp_path / "model", device="cpu", mixed_precision=one) for one in ("no", precision))
    batch = WaveBatch.collate([read_audio(files[0], 16_000)], 16_000)
    with torch.inference_mode():
        found = model.model.upstream.streams["a"](batch).states
        with in_precision(exact.model.upstream.streams["a"], CPU, precision):
            expected = exact.model.upstream.streams["a"](batch).states.float()
        assert torch.equal(found, expected) and found.dtype == torch.float32
        assert torch.equal(model.model.upstream(batch).streams["a"].states, expected)


def test_what_needs_float32_is_refused(folder, small_corpus, tmp_path):
    model = load_model(folder, device="cpu", mixed_precision="bf16")
    again = "was loaded with mixed_precision=bf16. Load it again without"
    with pytest.raises(ValueError, match=f"An evaluation needs a model in float32, and this one {again}"):
        undertone_package.evaluate(model, str(small_corpus))
    with pytest.raises(ValueError, match=f"An export to ONNX .* {again}"):
        undertone_package.export(model, tmp_path / "onnx", to="onnx")
    with pytest.raises(ValueError, match=f"Training .* {again}"):
        model.model.unfreeze_base_model()
    with pytest.raises(ValueError, match=f"Another precision .* {again}"):
        keep_in_precision(model.model.upstream, CPU, "int8")
    model.model.save_pretrained(tmp_path / "saved")
    saved, exact = (load_model(where, device="cpu").model.state_dict() for where in (tmp_path / "saved", folder))
    assert all(torch.equal(saved[name], exact[name]) for name in exact)


@INT8
def test_int8_of_no_linear_layer_is_refused(tmp_path):
    make_model("fbank", "linear", TASKS).save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="int8 is for linear layers, and this model's upstream has none. Leave it out"):
        load_model(tmp_path / "model", device="cpu", mixed_precision="int8")


def test_auto_is_bf16_where_the_processor_has_it(folder, monkeypatch):
    config = make_config({"corpus": "synthetic", "device": "cpu"}, ["mixed_precision=auto"])
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False)
    model = load_model(folder, device="cpu", mixed_precision="auto")
    assert native_precision(CPU) == "no" and precision_of(model) == "no"
    resolved, note = with_precision(config, model.model.upstream)
    assert resolved.mixed_precision == "no"
    assert note == "mixed_precision=auto: this CPU computes in float32, as it has no bf16 of its own"
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    model = load_model(folder, device="cpu", mixed_precision="auto")
    assert precision_of(model) == "bf16" and "bf16" in precisions(CPU, model.model.upstream)
    resolved, note = with_precision(config, model.model.upstream)
    assert resolved.mixed_precision == "bf16" and note == "mixed_precision=auto: this CPU computes in bf16"


def test_an_upstream_without_weights_computes_in_float32(tmp_path, files, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    make_model("fbank", "linear", TASKS).save_pretrained(tmp_path / "model")
    exact = load_model(tmp_path / "model", device="cpu")
    for precision in ("auto", "bf16"):
        model = load_model(tmp_path / "model", device="cpu", mixed_precision=precision)
        assert precision_of(model) == "no"
        np.testing.assert_array_equal(*(embeddings(one.predict(files, embeddings=True)) for one in (exact, model)))
        config = make_config({"corpus": "synthetic", "device": "cpu"}, [f"mixed_precision={precision}"])
        resolved, note = with_precision(config, model.model.upstream)
        assert resolved.mixed_precision == {"auto": "no", "bf16": "bf16"}[precision]  # a head may be trained in it
        assert note.startswith(f"mixed_precision={precision}: fbank has no weights and computes in float32")


@pytest.mark.parametrize("wrong", ["int4", "fp16", "no "])
def test_a_precision_that_there_is_not_is_refused_with_those_there_are(folder, wrong):
    with pytest.raises(ValueError, match=rf"mixed_precision='{wrong}' is not for this CPU. Use no, bf16.* or auto"):
        load_model(folder, device="cpu", mixed_precision=wrong)


@pytest.mark.parametrize(("upstream", "wrong"), [("fbank", "int8"), ("", "fp16")])
def test_a_run_and_an_extraction_refuse_what_a_prediction_does(
    upstream, wrong, folder, small_corpus, tmp_path, monkeypatch
):
    """In the same words, before anything is written."""
    make_model(upstream or str(folder.parent / "upstream"), "linear", TASKS).save_pretrained(tmp_path / "model")
    words = [f"mixed_precision={wrong}", f"store={tmp_path / 'store'}", "device=cpu"]
    config = make_config({"corpus": str(small_corpus), "upstream": upstream or str(folder.parent / "upstream")}, words)
    said = []
    for attempt in (
        lambda: load_model(tmp_path / "model", device="cpu", mixed_precision=wrong),
        lambda: crossval(config, tmp_path / "run", Display(quiet=True)),
        lambda: extract_corpus(config, "mean", Display(quiet=True)),
    ):
        with pytest.raises(ValueError, match=f"mixed_precision='?{wrong}'? is ") as refused:
            attempt()
        said.append(str(refused.value))
    assert len(set(said)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_run_with_auto_is_taken_up_by_the_same_command(small_corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    words = ["mixed_precision=auto", f"store={tmp_path / 'store'}", "device=cpu", "head=linear"]
    for _ in range(2):
        run = open_run(make_config({"corpus": str(small_corpus)}, words), tmp_path / "run", Display(quiet=True))
        assert run.config.mixed_precision == "no"
    assert json.loads((tmp_path / "run" / "config.json").read_text())["mixed_precision"] == "no"


def test_states_that_no_precision_changes_are_stored_once(folder, small_corpus, tmp_path):
    """Three stores: those of the Transformer in float32 and in bf16, and fbank's, which are the same in both."""
    upstream = f"a={folder.parent / 'upstream'}+fbank"
    for precision in ("no", "bf16"):
        words = [f"mixed_precision={precision}", f"store={tmp_path}", "device=cpu"]
        config = make_config({"corpus": str(small_corpus), "upstream": upstream}, words)
        extract_corpus(config, "mean", Display(quiet=True))
    assert len(list(tmp_path.glob("*/meta.json"))) == 3


@INT8
def test_a_model_of_transformers_in_int8(tmp_path, files):
    save_classifier("tiny-wav2vec2", tmp_path)
    exact, model = load_model(tmp_path, device="cpu"), load_model(tmp_path, device="cpu", mixed_precision="int8")
    assert isinstance(model.model, TransformersModel)
    found = embeddings(model.predict(files, embeddings=True))
    with int8_layers(exact.model):
        expected = embeddings(exact.predict(files, embeddings=True))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    exactly = embeddings(exact.predict(files, embeddings=True))
    assert 1e-4 < np.abs(found - exactly).max() / np.abs(exactly).max() < 0.1


@pytest.mark.parametrize("wrong_by", [-1.0, float("nan")])
@pytest.mark.parametrize("kind", ["ours", "transformers"])
def test_a_device_that_computes_something_else_is_refused(folder, tmp_path, kind, wrong_by, monkeypatch):
    where = folder if kind == "ours" else save_classifier("tiny-wav2vec2", tmp_path)
    linear = torch.nn.functional.linear

    def wrong(input, weight, bias=None):
        output = linear(input, weight, bias)
        return wrong_by * output if output.dtype == torch.bfloat16 else output

    monkeypatch.setattr(torch.nn.functional, "linear", wrong)
    monkeypatch.setattr(linear_layers, "PACKING", False)  # else products in bf16 are not torch's own
    with pytest.raises(ValueError, match=r"mixed_precision=bf16 is wrong .* % off float32, .*Use mixed_precision=no"):
        load_model(where, device="cpu", mixed_precision="bf16")


@INT8
def test_from_the_command_line(folder, files):
    found = undertone("predict", folder, files[0], "--json", "--mixed-precision", "int8", "--device", "cpu")
    (row,) = load_model(folder, device="cpu", mixed_precision="int8").predict(files[0])
    (printed,) = json.loads(found.out)
    assert printed["emotion"]["scores"] == pytest.approx(row["emotion"]["scores"], abs=1e-4)
    outcome = undertone("predict", folder, files[0], "--mixed-precision", "int4", "--device", "cpu")
    assert outcome.fails_with("mixed_precision='int4' is not for this CPU", "or auto")
