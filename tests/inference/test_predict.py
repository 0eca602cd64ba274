"""Predictions are the model's own, whatever shares their batch, and a bad file spoils nothing but its own entry."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from threading import Semaphore

import numpy as np
import pytest
import soundfile
import torch

from undertone.audio.read import AudioError, read_audio
from undertone.downstream.config import UndertoneConfig
from undertone.downstream.model import UndertoneModel
from undertone.downstream.task import Task
from undertone.inference import predict
from undertone.inference.predict import Predictor, load_model
from undertone.tests.inference.conftest import TASKS
from undertone.upstream import WaveBatch, load_upstream
from undertone.upstream.hf.random_weights import save_random
from undertone.upstream.linear_layers import packed

WAVE = [0.0, 0.1, -0.1] * 2000


def numbers(row):
    """All values of a prediction, in order."""
    scores = [*row["emotion"]["scores"].values(), *row["gender"]["scores"].values()]
    return np.array([*scores, row["arousal"], row["duration"]])


def test_an_entry_says_what_the_model_computes(predictor, files, model_folder):
    (row,) = predictor.predict([files[0]], attention=True, embeddings=True)
    model = UndertoneModel.from_pretrained(model_folder)
    with torch.no_grad():
        output = model.head_output(WaveBatch.collate([read_audio(files[0], 16000)], 16000))
    logits = output.logits
    assert list(row) == ["file", "duration", "emotion", "gender", "arousal", "attention", "embedding"]
    np.testing.assert_allclose(row["embedding"], output.embedding[0], atol=1e-6)
    times, weights = row["attention"]["times"], row["attention"]["weights"]
    assert sum(weights) == pytest.approx(1, abs=1e-5) and len(times) == len(weights)
    np.testing.assert_allclose(times, (np.arange(len(times)) + 0.5) * 2.5 / len(times))
    assert row["file"] == str(files[0]) and row["duration"] == 2.5
    for task in ("emotion", "gender"):
        exponents = logits[task][0].double().exp()
        expected = (exponents / exponents.sum()).numpy()
        np.testing.assert_allclose(list(row[task]["scores"].values()), expected, atol=1e-6)
        assert row[task]["label"] == list(row[task]["scores"])[int(expected.argmax())]
    assert list(row["emotion"]["scores"]) == ["angry", "happy", "sad"], "the task's order"
    assert row["arousal"] == pytest.approx(float(logits["arousal"]), abs=1e-6)
    json.dumps(row)


def test_tasks_that_are_called_as_the_fixed_keys_are_hide_nothing(files):
    upstream = load_upstream("fbank")
    names = ["attention", "embedding", "duration"]
    tasks = [Task(name, "regression", (name,)).to_dict() for name in names]
    model = UndertoneModel(UndertoneConfig(upstream=upstream.spec(), tasks=tasks), upstream)
    (row,) = Predictor(model).predict([files[0]], attention=True, embeddings=True)
    assert list(row) == ["file", "duration", "attention_", "embedding_", "duration_", "attention", "embedding"]
    assert "weights" in row["attention"] and isinstance(row["attention_"], float) and row["duration"] == 2.5
    (window, *_) = Predictor(model).predict_long(files[0], window=1.0)
    assert [key for key in window if key.endswith("_")] == [f"{name}_" for name in names]


@pytest.mark.parametrize("batch_seconds", [0.001, 3.0, 1000.0])
def test_batches_change_neither_order_nor_predictions(predictor, files, batch_seconds):
    order = [3, 0, 4, 2, 1]
    alone = [predictor.predict([file], attention=True)[0] for file in files]
    together = predictor.predict([files[index] for index in order], batch_seconds=batch_seconds, attention=True)
    assert [row["file"] for row in together] == [str(files[index]) for index in order]
    for index, row in zip(order, together, strict=True):
        np.testing.assert_allclose(numbers(row), numbers(alone[index]), atol=1e-5)
        for key in ("times", "weights"):  # as many as alone: none of the padding
            np.testing.assert_allclose(row["attention"][key], alone[index]["attention"][key], atol=1e-5)
    assert np.abs(numbers(alone[0]) - numbers(alone[1]))[:-1].max() > 1e-3, "else any order would pass"


def test_one_path_is_a_list_of_one(predictor, files):
    assert predictor.predict(str(files[1])) == predictor.predict(files[1]) == predictor.predict([files[1]])
    assert predictor.predict([]) == []


def test_the_same_file_twice(predictor, files):
    first, second = predictor.predict([files[1], files[1]])
    assert first["file"] == second["file"]
    np.testing.assert_allclose(numbers(first), numbers(second), atol=1e-5)


def test_many_files_go_through_packed_weights_and_one_does_not(predictor, files, monkeypatch):
    """Both give the same; 60 s of sound would take long here, so the limit is lowered."""
    entered = []

    @contextmanager
    def watched(module):
        with packed(module):
            entered.append(module)
            yield

    monkeypatch.setattr(predict, "packed", watched)
    alone = [predictor.predict(file)[0] for file in files[:2]]
    assert not entered
    monkeypatch.setattr(predict, "PACKED_FROM", 0.1)
    for row, expected in zip(predictor.predict(files[:2]), alone, strict=True):
        np.testing.assert_allclose(numbers(row), numbers(expected), atol=1e-5)
    assert entered == [predictor.model]


def test_a_file_longer_than_the_upstream_takes_spoils_nothing_else(tmp_path, files):
    upstream = load_upstream(str(save_random("tiny-whisper", tmp_path / "upstream")))
    config = UndertoneConfig(upstream=upstream.spec(), head="linear", tasks=[TASKS[0].to_dict()])
    predictor = Predictor(UndertoneModel(config, upstream))
    soundfile.write(tmp_path / "long.wav", np.full(16000 * 31, 0.1), 16000)
    long, short = predictor.predict([tmp_path / "long.wav", files[1]])
    assert "takes at most 30 s at once, got 31.0 s. Cut it into windows" in long["error"] and "emotion" in short


@pytest.fixture
def bad_files(tmp_path, files):
    (tmp_path / "text.wav").write_text("this is no sound")
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "cut.wav").write_bytes(files[0].read_bytes()[:5000])
    broken = np.zeros(1600, dtype=np.float32)
    broken[7] = np.nan
    soundfile.write(tmp_path / "nan.wav", broken, 16000, subtype="FLOAT")
    return [tmp_path / name for name in ("text.wav", "empty.wav", "cut.wav", "nan.wav", "missing.wav")]


def test_bad_files_have_a_reason_and_the_rest_goes_on(predictor, files, bad_files):
    rows = predictor.predict([bad_files[0], files[1], *bad_files[1:], files[3]])
    good = predictor.predict([files[1], files[3]])
    np.testing.assert_allclose(numbers(rows[1]), numbers(good[0]), atol=1e-5)
    np.testing.assert_allclose(numbers(rows[-1]), numbers(good[1]), atol=1e-5)
    reasons = [row["error"] for row in (rows[0], *rows[2:-1])]
    for reason, said in zip(
        reasons, ("not readable as audio", "empty", "truncated", "NaN", "no such file"), strict=True
    ):
        assert said in reason
    assert all(list(row) == ["file", "error"] for row in (rows[0], *rows[2:-1]))


@pytest.mark.parametrize("bad", range(5))
def test_strict_raises_at_a_bad_file(predictor, files, bad_files, bad):
    with pytest.raises(AudioError, match=bad_files[bad].name):
        predictor.predict([files[1], bad_files[bad]], strict=True)


def test_samples_in_memory_give_the_files_prediction(predictor, files):
    samples, rate = soundfile.read(files[3], dtype="float32", always_2d=True)
    from_file, from_memory = predictor.predict([files[3]])[0], predictor.predict_wave(samples.mean(1), rate)
    assert rate == 44100 and "file" not in from_memory
    np.testing.assert_allclose(numbers(from_memory), numbers(from_file), atol=1e-5)
    assert predictor.predict_wave([0.0, 0.1] * 4000, 16000) == predictor.predict_wave(np.tile([0.0, 0.1], 4000), 16000)


@pytest.mark.parametrize(
    "samples, said",
    [
        (
            np.zeros((2, 3, 800), np.float32),
            r"got shape \(2, 3, 800\) of torch.float32. Several recordings go in a list",
        ),
        (np.zeros(0, np.float32), "there are no samples"),
        (np.zeros(800, np.int16), "of torch.int16.* divide 16 bit integers by 32768"),
        (np.full(800, np.inf, np.float32), "800 of 800 samples are NaN or infinite"),
    ],
)
def test_samples_that_are_no_wave_are_refused(predictor, samples, said):
    with pytest.raises(ValueError, match=said):
        predictor.predict_wave(samples, 16000)


def test_a_run_stands_for_its_model_and_a_fold_for_its_own(tmp_path, model_folder, files, predictor):
    run = tmp_path / "run"
    for folder in (run / "model", run / "folds" / "sp%2F01" / "model"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.symlink_to(model_folder)
    expected = predictor.predict(files[1])
    assert load_model(run).predict(files[1]) == load_model(str(run), fold="sp/01").predict(files[1]) == expected
    with pytest.raises(ValueError, match="No model in .*folds/02/model. Folds with a model: sp/01."):
        load_model(run, fold="02")


def test_nothing_there_says_what_was_looked_for(tmp_path):
    with pytest.raises(
        ValueError, match="No model in .*: looked for config.json .* model.safetensors in .* and .*/model"
    ):
        load_model(tmp_path)
    with pytest.raises(ValueError, match="there is no such folder. Give a model folder, a run, or a Hub id user/name."):
        load_model(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="there is no such folder"):
        load_model("somebody/emodb", fold="01")


# What loading a model and predicting a file may import beyond the standard library: torch, transformers, what these
# import themselves, and what reads sound and configs.
MAY_BE_IMPORTED = {
    "undertone", "torch", "torchaudio", "torchgen", "transformers", "accelerate", "safetensors", "tokenizers",
    "huggingface_hub", "numpy", "scipy", "soundfile", "cffi", "xxhash", "pydantic", "pydantic_core", "annotated_types",
    "PIL", "anyio", "brotli", "certifi", "charset_normalizer", "click", "cuda", "cython_runtime", "dill", "filelock",
    "fsspec", "functorch", "google", "h11", "hf_xet", "httpcore", "httpcore2", "httpx", "httpx2", "idna", "jinja2",
    "markupsafe",
    "mpmath", "networkx", "packaging", "psutil", "regex", "requests", "sniffio", "sympy", "tqdm", "triton",
    "truststore", "typing_extensions", "typing_inspection", "urllib3", "yaml",
}  # fmt: skip


@pytest.mark.parametrize("kind", [pytest.param("fbank", marks=pytest.mark.slow), "tiny-wav2vec2"])
def test_predicting_imports_nothing_outside_a_written_list(kind, model_folder, files, tmp_path):
    folder = model_folder
    if kind != "fbank":
        upstream = load_upstream(str(save_random(kind, tmp_path / "upstream")))
        config = UndertoneConfig(upstream=upstream.spec(), head="linear", tasks=[TASKS[0].to_dict()])
        UndertoneModel(config, upstream).save_pretrained(tmp_path / "model")
        folder = tmp_path / "model"
    code = (
        "import sys; from undertone import load_model; "
        f"load_model({str(folder)!r}, device='cpu').predict({str(files[1])!r}); "
        "print(*{name.split('.')[0] for name in sys.modules} - set(sys.stdlib_module_names))"
    )
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=120)
    assert answer.returncode == 0, answer.stderr
    packages = {name for name in answer.stdout.split() if not name.startswith("_")} - {"moduleTNC"}  # a part of scipy
    assert packages <= MAY_BE_IMPORTED, packages - MAY_BE_IMPORTED


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "takes paths of audio files, file objects.*got None"),
        (3, "got an int"),
        ([True], "got a bool"),
        ([0.0, 0.1], "got a float"),
        (np.zeros(9), r"without its rate: predict\(samples, sample_rate=16000\)"),
        ([torch.zeros(9)], "a Tensor without its rate"),
        ({"array": WAVE}, "has 'array' and no 'sampling_rate'"),
        (
            [{"audio": {"path": "a.wav"}}],
            r"this one has 'audio'. Of a data set give the column of its audio: data\['audio'\]",
        ),
        (io.StringIO("RIFF"), "Open the file with mode 'rb'"),
        ((np.zeros(800, np.int16), 16_000), "of torch.int16.* divide 16 bit integers by 32768"),
        ((np.zeros((3, 3)), 16_000), r"got shape \(3, 3\).*Several recordings go in a list"),
        ((WAVE, 10), "Cannot resample 10 Hz"),
    ],
)
def test_what_is_no_recording_is_refused_with_where_it_goes(predictor, given, said):
    with pytest.raises(ValueError, match=said):
        predictor.predict(given)


@pytest.mark.parametrize("seconds", [-1, "60", float("nan")])
def test_a_batch_is_of_seconds(predictor, files, seconds):
    with pytest.raises(ValueError, match="batch_seconds=.* must be seconds, 0 or more, or None"):
        predictor.predict(files[0], batch_seconds=seconds)


@pytest.mark.parametrize(
    "samples", [None, "a.wav", {"array": WAVE}, [[0.1], [0.1, 0.2]], object(), np.array([None, 1.0])]
)
def test_what_is_no_array_is_refused(predictor, samples):
    with pytest.raises(ValueError, match=r"Expected (\(N,\) )?floats in \[-1, 1\],.* got"):
        predictor.predict_wave(samples, 16_000)


@pytest.mark.parametrize("rate", [None, "16000", 16_000.5, float("nan"), float("inf"), True, 0, -16_000])
def test_a_rate_that_is_none_is_refused(predictor, rate):
    with pytest.raises(ValueError, match="must be a whole number of Hz|are allowed"):
        predictor.predict_wave(WAVE, rate)


def test_what_other_libraries_call_a_rate_or_samples_is_taken(predictor):
    expected = predictor.predict_wave(WAVE, 16_000)
    assert predictor.predict_wave(torch.tensor(WAVE, requires_grad=True), 16_000.0) == expected
    assert predictor.predict_wave(np.array(WAVE, dtype=np.float32), np.int64(16_000)) == expected


def test_no_paths_give_no_predictions(predictor):
    assert predictor.predict([]) == predictor.predict(iter(())) == []


def as_other_kinds(path):
    """One recording as each of the kinds that `predict` takes."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)  # (N, channels)
    mono = samples.mean(1)
    return {
        "bytes": path.read_bytes(),
        "file object": io.BytesIO(path.read_bytes()),
        "soundfile": (samples, rate),
        "torchaudio": (torch.from_numpy(samples.T), rate),
        "pipeline": {"array": mono, "sampling_rate": rate},
        "raw": {"raw": mono.tolist(), "sampling_rate": rate},
        "data set row": {"bytes": path.read_bytes(), "path": None},
    }


@pytest.mark.parametrize("name", ["middle.flac", "tiny.wav"])
def test_every_kind_of_input_gives_the_files_prediction(predictor, files, name):
    path = next(file for file in files if file.name == name)
    (expected,) = predictor.predict(path)
    kinds = as_other_kinds(path)
    for kind, row in zip(kinds, predictor.predict(list(kinds.values())), strict=True):
        np.testing.assert_allclose(numbers(row), numbers(expected), atol=1e-5, err_msg=kind)
        assert "file" not in row
    samples, rate = kinds["soundfile"]
    for one in (predictor.predict(samples, sample_rate=rate), predictor.predict((samples, rate))):
        assert len(one) == 1 and numbers(one[0]) == pytest.approx(numbers(expected), abs=1e-5)
    with path.open("rb") as file:
        assert predictor.predict(file)[0]["file"] == str(path)


def test_a_column_of_a_data_set_needs_no_decoder(predictor, files):
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_dict({"audio": [str(path) for path in files[:2]], "n": [1, 2]})
    embedded = [{"bytes": path.read_bytes(), "path": path.name} for path in files[:2]]
    for audio in (
        table.cast_column("audio", datasets.Audio()),
        datasets.Dataset.from_dict({"audio": embedded}).cast_column("audio", datasets.Audio()),
    ):
        rows = predictor.predict(audio["audio"])
        for row, expected in zip(rows, predictor.predict(files[:2]), strict=True):
            assert Path(row["file"]).name == Path(expected["file"]).name
            np.testing.assert_allclose(numbers(row), numbers(expected), atol=1e-5)


def test_a_bad_element_is_that_rows_reason(predictor, files):
    broken = np.full(800, np.nan, np.float32)
    first, second, third = predictor.predict([(broken, 16_000), files[1], b"no audio"])
    assert "800 of 800 samples are NaN" in first["error"] and "emotion" in second
    assert "not readable as audio" in third["error"] and list(third) == ["error"]


def test_a_stream_of_inputs_is_read_as_it_is_used(predictor, files):
    asked = []

    def endless():
        while True:
            asked.append(files[len(asked) % len(files)])
            yield asked[-1]

    rows = predictor.predict_each(endless())
    assert not asked
    found = [next(rows) for _ in range(7)]
    rows.close()
    assert [row["file"] for row in found] == [str(path) for path in asked[:7]] and len(asked) < 30
    for row, path in zip(found, asked, strict=False):
        np.testing.assert_allclose(numbers(row), numbers(predictor.predict(path)[0]), atol=1e-5)


def test_rows_of_batches_come_in_order(predictor, files):
    rows = predictor.predict_each(iter(files), batch_seconds=3.0)
    assert [row["file"] for row in rows] == [str(path) for path in files]


@pytest.mark.parametrize("batch_seconds", [None, 60.0])
@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory. Tried 20 MiB."), MemoryError("no room")])
def test_a_file_that_the_memory_does_not_hold_spoils_nothing_else(predictor, files, monkeypatch, batch_seconds, error):
    """Files of over 2 s ask for more memory than there is; they lie in one batch with the others, or alone."""
    compute, expected = UndertoneModel.predict_batch, predictor.predict(files)

    def short_of_memory(model, batch):
        if batch.samples.shape[1] > 2 * 16_000:
            raise error
        return compute(model, batch)

    monkeypatch.setattr(UndertoneModel, "predict_batch", short_of_memory)
    rows = predictor.predict(files, batch_seconds=batch_seconds)
    advice = "Cut it into windows: --window 5, or predict_long(file, window=5)."
    assert rows[0]["error"] == f"The memory does not hold 2.5 s of audio at once: {error} {advice}"
    for row, known in zip(rows[1:], expected[1:], strict=True):
        np.testing.assert_allclose(numbers(row), numbers(known), atol=1e-5)
    with pytest.raises(ValueError, match="The memory does not hold 2.5 s"):
        predictor.predict(files[:2], strict=True)


def test_what_fits_alone_is_tried_again_alone(predictor, files, monkeypatch):
    """Memory that others use for a moment is free when they have finished."""
    whole, running, most = predictor.model.upstream.forward, Semaphore(1), []

    def crowded(batch):
        if not running.acquire(blocking=False):
            most.append(batch)
            raise torch.OutOfMemoryError("CUDA out of memory.")
        try:
            time.sleep(0.02)
            return whole(batch)
        finally:
            running.release()

    expected = predictor.predict(files)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)  # recordings at once
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    monkeypatch.setattr(predictor.model.upstream, "forward", crowded)
    rows = predictor.predict(files)
    assert most and not any("error" in row for row in rows)
    for row, known in zip(rows, expected, strict=True):
        np.testing.assert_allclose(numbers(row), numbers(known), atol=1e-5)


def test_scores_that_are_no_numbers_are_a_reason(predictor, files, monkeypatch):
    whole = predictor.model.upstream.forward
    monkeypatch.setattr(predictor.model.upstream, "forward", lambda batch: _spoilt(whole(batch)))
    assert "scores for it are not finite" in predictor.predict(files[1])[0]["error"]


def _spoilt(hidden):
    hidden.states[:] = float("nan")
    return hidden


def test_a_predictor_says_what_it_is(predictor, model_folder):
    for text in (repr(predictor), predictor._repr_html_()):
        for said in (str(model_folder), "angry, happy, sad", "female, male", "a value", "fbank", "16000 Hz", "cpu"):
            assert said in text
