"""One layer, or the one that dev chooses: the same training, the same model, whichever way it is made."""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from undertone import load_model
from undertone.common.console import Display
from undertone.common.files import read_json
from undertone.experiments.crossval import crossval, train
from undertone.experiments.open_run import open_run
from undertone.hub.to_transformers import to_transformers
from undertone.scoring.predictions import Predictions
from undertone.scoring.results import title_lines
from undertone.tests.hub.test_to_transformers import make_model
from undertone.training.config import trials
from undertone.training.settings import make_config
from undertone.upstream import WaveBatch
from undertone.upstream.hf.random_weights import save_random

QUIET = Display(quiet=True)
WORDS = ["protocol=groups", "num_folds=2", "batch_size=16", "head.hidden_size=8", "max_epochs=3", "device=cpu"]
LOGITS = "downstream.layer_sum.logits"


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Settings of a run on a tiny upstream of three layers, with one store for all runs."""
    upstream = save_random("tiny-wav2vec2", tmp_path_factory.mktemp("tiny") / "upstream")
    return [*WORDS, f"upstream={upstream}", f"store={tmp_path_factory.mktemp('store')}", "store_dtype=float32"]


def one_hot(run: Path) -> list[float]:
    return load_file(run / "model" / "model.safetensors")[LOGITS].softmax(0).tolist()


@pytest.fixture(scope="module")
def chosen(small_corpus: Path, words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("best") / "run"
    crossval(make_config({"corpus": str(small_corpus)}, [*words, "head=linear", "layers=best"]), out, QUIET)
    return out


def test_dev_chooses_the_layer_of_each_fold(chosen: Path) -> None:
    results = read_json(chosen / "results.json")
    assert results["layers"] == "best" and results["sweep"]["values"] == {"layers": [0, 1, 2]}
    for fold in results["folds"]:
        scores = [trial["dev_score"] for trial in fold["trials"]]
        best = int(np.argmax(scores))
        assert [trial["layers"] for trial in fold["trials"]] == [0, 1, 2]
        assert fold["chosen"] == {"layers": best} and fold["layer_weights"] == np.eye(3)[best].tolist()
    by_layer = zip(*([trial["dev_score"] for trial in fold["trials"]] for fold in results["folds"]), strict=True)
    assert results["sweep"]["dev_scores"] == [
        {"layers": layer, "mean": pytest.approx(statistics.fmean(scores))} for layer, scores in enumerate(by_layer)
    ]
    (line,) = [line for line in title_lines(results) if line.startswith("Sweep: layers of 0 to 2, chosen")]
    assert all(f"layers={fold['chosen']['layers']} in" in line for fold in results["folds"])
    most = statistics.mode(fold["chosen"]["layers"] for fold in results["folds"])
    assert one_hot(chosen) == np.eye(3)[most].tolist(), "the model of all speakers"


@pytest.mark.parametrize("memory", ["memory=1", "memory=0"], ids=["stacked", "one by one"])
def test_the_layer_that_was_chosen_is_the_run_of_that_layer(
    chosen: Path, small_corpus: Path, words: list[str], memory: str, tmp_path: Path
) -> None:
    fold = read_json(chosen / "results.json")["folds"][0]
    name, layer = fold["name"], fold["chosen"]["layers"]
    config = make_config({"corpus": str(small_corpus)}, [*words, "head=linear", f"layers={layer}", memory])
    results = train(config, tmp_path / "run", name, QUIET)
    alone, tried = results["folds"][0], read_json(chosen / "folds" / name / f"layers={layer}" / "fold.json")
    assert alone["dev_score"] == pytest.approx(tried["dev_score"], abs=1e-5)
    assert alone["trained_parameters"] == tried["trained_parameters"]
    folders = tmp_path / "run", chosen / "folds" / name / f"layers={layer}"
    states = [load_file(folder / "model" / "model.safetensors") for folder in folders]
    for key, value in states[1].items():
        torch.testing.assert_close(states[0][key], value, atol=1e-5, rtol=0)
    assert f"Layer {layer} alone, of the layers 0 to 2." in title_lines(results)


def test_a_head_on_frames_reads_that_layer_alone_and_its_model_takes_it(
    small_corpus: Path, words: list[str], tmp_path: Path
) -> None:
    config = make_config({"corpus": str(small_corpus)}, [*words, "head=attention", "layers=1"])
    run = open_run(config, tmp_path / "run", QUIET)
    clips = list(run.manifest)[:3]
    own, every = run.training(run.folds[0], trials(config)[0]).source(clips), run.source(clips)
    assert own.states.shape[1] == 1 and torch.equal(own.states[:, 0], every.states[:, 1])
    results = train(config, tmp_path / "run", None, QUIET)
    assert results["folds"][0]["layer_weights"] == one_hot(tmp_path / "run") == [0, 1, 0]
    found = Predictions.load(tmp_path / "run" / "predictions.parquet")
    model, paths = load_model(tmp_path / "run"), {item.id: item.path for item in run.manifest}
    for place, name in enumerate(found.ids[:4]):
        scores = model.predict([paths[name]])[0]["emotion"]["scores"]
        np.testing.assert_allclose(list(scores.values()), found.scores["emotion"][place], atol=1e-4)


@pytest.mark.slow
def test_a_head_on_frames_can_choose_too(small_corpus: Path, words: list[str], tmp_path: Path) -> None:
    config = make_config(
        {"corpus": str(small_corpus)}, [*words, "head=attention", "sweep.layers=sum,2", "max_epochs=1"]
    )
    results = train(config, tmp_path / "run", None, QUIET)
    weights = results["folds"][0]["layer_weights"]
    assert weights == [0, 0, 1] if results["folds"][0]["chosen"] == {"layers": 2} else min(weights) > 0


def test_exports_take_the_layer(tmp_path: Path) -> None:
    model = make_model(save_random("tiny-wav2vec2", tmp_path / "upstream"), "linear", scale=20, layer_norm=False)
    model.downstream.layer_sum.select(1)
    samples = 0.1 * torch.randn(1, 8000)
    hidden = model.upstream(WaveBatch(samples, torch.tensor([8000]), 16000))
    head = model.downstream.head
    expected = head.outputs.layer("emotion")(head.projector(hidden.states[:, 1].mean(1))).detach()
    batch = WaveBatch(samples, torch.tensor([8000]), 16000)
    torch.testing.assert_close(model.predict_batch(batch).logits["emotion"], expected, atol=1e-5, rtol=1e-5)
    model.save_pretrained(tmp_path / "saved")
    loaded = type(model).from_pretrained(tmp_path / "saved")
    torch.testing.assert_close(loaded.predict_batch(batch).logits["emotion"], expected, atol=1e-5, rtol=1e-5)
    from transformers import AutoModelForAudioClassification

    native = AutoModelForAudioClassification.from_pretrained(
        to_transformers(model, tmp_path / "native", "emotion").folder
    )
    values = (
        (samples - samples.mean()) / (samples.var(unbiased=False) + 1e-7).sqrt()
        if model.upstream.do_normalize
        else samples
    )
    torch.testing.assert_close(native(values).logits, expected, atol=1e-4, rtol=1e-4)
    pytest.importorskip("onnxruntime", reason="needs undertone[onnx]")
    from undertone.hub.onnx.to_onnx import to_onnx

    assert to_onnx(model, tmp_path / "onnx").difference < 1e-4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["layers=3"], r"layers=3: .* has the layers 0 \(input of the first block\) to 2. Give one of these"),
        (["sweep.layers=1,7"], r"layers=7: .* has the layers 0"),
        (["layers=best", "upstream=fbank"], "layers=best: 'fbank' has one layer, so there is nothing to choose"),
    ],
)
def test_what_the_upstream_has_not_is_a_sentence(
    small_corpus: Path, words: list[str], settings: list[str], message: str, tmp_path: Path
) -> None:
    config = make_config({"corpus": str(small_corpus)}, [*words, *settings])
    with pytest.raises(ValueError, match=message):
        open_run(config, tmp_path / "run", QUIET)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["layers=-1"], "Setting 'layers': give sum, best, or the number of one layer, 0 or more .*, got -1"),
        (["layers=last"], "got 'last'"),
        (["layers=true"], "got True"),
        (["sweep.layers=best,1"], "layers=best is itself a sweep over all layers"),
    ],
)
def test_what_is_no_layer_is_a_sentence(settings: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_config({"corpus": "emodb"}, settings)


def test_one_choice_of_layers(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("layers: best\nsweep: {layers: [0, 1]}\n")
    with pytest.raises(ValueError, match="layers=best tries every layer, sweep.layers those that it names"):
        make_config({"corpus": "emodb"}, file=file)
