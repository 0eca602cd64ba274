"""The ONNX graph against PyTorch, in padded batches; and its script where nothing else is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from undertone.common.discovery import available
from undertone.downstream.head import Head, head_class
from undertone.downstream.heads.linear import LinearHead
from undertone.downstream.task import Task
from undertone.recipes.systems import load_system
from undertone.tests.hub.test_to_transformers import make_model
from undertone.upstream import Frames, WaveBatch, load_upstream
from undertone.upstream.acoustic._base import BatchedAcoustic
from undertone.upstream.acoustic._opensmile import OpenSmile
from undertone.upstream.acoustic.contours import Contours
from undertone.upstream.acoustic.fbank import Fbank
from undertone.upstream.hf.random_weights import ARCHITECTURES, save_random
from undertone.upstream.streams import Streams

pytest.importorskip("onnx", reason="needs undertone[onnx]")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs undertone[onnx]")

from undertone.hub.onnx.to_onnx import to_onnx  # noqa: E402

torch.set_num_threads(1)
TASKS = [
    Task("emotion", "classification", ("angry", "happy", "sad")),
    Task("arousal", "regression", ("arousal",)),
]
TINY = [name for name in ARCHITECTURES if name.startswith("tiny-")]
# a kind of input each
FIRST = ("tiny-wav2vec2", "tiny-wavlm-layer", "tiny-sew", "tiny-w2v-bert", "tiny-lasr", "tiny-whisper")
BATCHES = [(0.5, 1.5, 4.0), (0.7,), (0.02, 0.9)]  # `to_onnx` itself compares 15 s


def noise(seconds, seed):
    random = np.random.default_rng(seed)
    return (0.1 * random.standard_normal(int(16000 * seconds)) + 0.02).astype(np.float32)


def voice(seconds, seed):
    """A voice that glides from 100 to 250 Hz, in noise, with its second half unvoiced."""
    times = np.arange(int(16000 * seconds)) / 16000
    pitch = 100 + 150 * times / max(seconds, 1)
    tones = sum(np.sin(2 * np.pi * number * np.cumsum(pitch) / 16000) / number for number in range(1, 6))
    return (0.1 * tones * (times < seconds / 2) + 0.05 * noise(seconds, seed)).astype(np.float32)


def torch_scores(model, waves):
    """The scores of each clip alone, so that neither side's batching is trusted."""
    outputs = [model.predict_batch(WaveBatch.collate([torch.from_numpy(wave)], 16000)).logits for wave in waves]
    emotion = np.concatenate([output["emotion"].softmax(-1).numpy() for output in outputs])
    return emotion, np.concatenate([output["arousal"].numpy() for output in outputs])


def check_batches(session, model, batches=BATCHES, sound=noise):
    for number, seconds in enumerate(batches):
        waves = [sound(second, 10 * number + place) for place, second in enumerate(seconds)]
        lengths = np.array([len(wave) for wave in waves])
        samples = np.stack([np.pad(wave, (0, max(lengths) - len(wave))) for wave in waves])
        found = session.run(["emotion", "arousal"], {"samples": samples, "lengths": lengths})
        for task, wanted in zip(found, torch_scores(model, waves), strict=True):
            np.testing.assert_allclose(task, wanted, atol=1e-4)


def session_of(made):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(made.folder / "model.onnx", options)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """`exported("tiny-wav2vec2")`: that upstream with an attention head, and what `to_onnx` made of it, once."""
    made = {}

    def export(name):
        if name not in made:
            folder = tmp_path_factory.mktemp("exported")
            model = make_model(save_random(name, folder / "upstream"), "attention", TASKS)
            made[name] = model, to_onnx(model, folder / "onnx")
        return made[name]

    return export


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name in FIRST else pytest.mark.slow) for name in TINY])
def test_padded_batches_have_pytorchs_scores(name, exported):
    model, made = exported(name)
    assert made.difference < 1e-4
    check_batches(session_of(made), model)


DEFAULT = ("linear", "frames", "logistic")  # a kind of graph each; attention's is tested above
HEADS = [
    pytest.param(name, marks=[] if name in DEFAULT else pytest.mark.slow)
    for name in (*available("undertone.downstream.heads", Head), "jiang2022 resized")
    if name == "jiang2022 resized" or not head_class(name).takes_streams  # several upstreams have no graph
]


@pytest.mark.parametrize("head", HEADS)
def test_every_head_can_be_exported(head, tmp_path):
    head, *resized = head.split()
    options = {"head_options": {"resize": 40}} if resized else {}
    scale = 1 if head == "ecapa" else 3  # a deep one: at 3 its values are of 1e13
    upstream = save_random("tiny-hubert", tmp_path / "upstream")
    model = make_model(upstream, head, TASKS, scale, layer_norm=head == "linear", **options)
    session = session_of(to_onnx(model, tmp_path / "onnx"))
    check_batches(session, model, BATCHES[1:])


STREAMS = [
    ("attention", "concat", {}, ("mfcc",)),
    pytest.param("attention", "late", {}, ("mfcc", "functionals"), marks=pytest.mark.slow),
    pytest.param("linear", "gate", {}, ("mfcc", "functionals"), marks=pytest.mark.slow),
    pytest.param("attention", "attention", {}, ("mfcc", "functionals"), marks=pytest.mark.slow),
    pytest.param("zou2022", "", {"weights": "softmax"}, ("mfcc", "spectrogram"), marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("head", "fusion", "options", "acoustic"), STREAMS)
def test_several_upstreams_are_one_graph(head, fusion, options, acoustic, tmp_path):
    """Of frames every 20 ms and every 10 ms, and of one vector a clip."""
    parts = {"ssl": load_upstream(str(save_random("tiny-wav2vec2", tmp_path / "upstream")))}
    parts |= {name: load_upstream(name) for name in acoustic}
    model = make_model(Streams(parts), head, TASKS, fusion=fusion, head_options=options)
    check_batches(session_of(to_onnx(model, tmp_path / "onnx")), model)


def test_segments_of_a_clip_have_no_graph(tmp_path):
    parts = {name: load_upstream(name) for name in ("mfcc", "spectrogram")}
    options = {"segments": {"mfcc": 98, "spectrogram": 98}, "fusion": "concat"}
    model = make_model(Streams(parts), "zou2022", TASKS, head_options=options)
    with pytest.raises(
        ValueError, match="segments, whose number no ONNX graph can follow. Train with head.segments={}"
    ):
        to_onnx(model, tmp_path / "onnx")


class CountingHead(LinearHead):
    """A head that counts in Python, which no graph holds."""

    def forward(self, streams):
        frames = self.only_stream(streams)
        longest = max(frames.lengths.tolist())
        return super().forward({"speech": Frames(frames.features[:, :longest].reshape(2, longest, -1), frames.lengths)})


def test_a_head_without_a_graph_is_refused(tmp_path):
    model = make_model("fbank", "linear", TASKS)
    model.downstream.head.__class__ = CountingHead
    with pytest.raises(ValueError, match="Head 'linear' cannot be exported to ONNX: .*What works: --head attention"):
        to_onnx(model, tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()


def test_values_over_time_come_out_as_their_mean(tmp_path):
    tasks = [TASKS[0], Task("arousal", "regression", ("arousal",), level="frame")]
    model = make_model(save_random("tiny-wavlm", tmp_path / "upstream"), "frames", tasks)
    session = session_of(to_onnx(model, tmp_path / "onnx"))
    wave = noise(0.6, 0)
    values = model.predict_batch(WaveBatch.collate([torch.from_numpy(wave)], 16000)).logits["arousal"]  # (1, T, 1)
    longer = np.pad(wave, (0, 5000))[None]
    found = session.run(["arousal"], {"samples": longer, "lengths": np.array([len(wave)])})[0]
    np.testing.assert_allclose(found, values.mean(1), atol=1e-4)


def test_int8_is_smaller_and_its_difference_is_what_was_measured(tmp_path):
    """A geometry in which matrices are most of the weights."""
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    torch.manual_seed(0)
    sizes = {"num_hidden_layers": 2, "hidden_size": 128, "intermediate_size": 1024, "num_attention_heads": 4}
    Wav2Vec2Model(Wav2Vec2Config(**sizes, conv_dim=[16] * 7)).save_pretrained(tmp_path / "upstream")
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "upstream")
    made = to_onnx(make_model(tmp_path / "upstream", "linear", TASKS, scale=1), tmp_path / "onnx")
    assert made.size == (made.folder / "model.onnx").stat().st_size
    assert made.int8.size == (made.folder / "model.int8.onnx").stat().st_size < 0.6 * made.size
    assert made.difference < made.int8.difference < 1
    assert 1e-5 < made.int8.in_batch < 1, "its ranges are those of the batch: were it otherwise, the note would go"


def test_int8_that_saves_nothing_is_not_written(tmp_path):
    made = to_onnx(make_model("functionals", "svm", TASKS, 1), tmp_path / "onnx")
    names = {path.name for path in made.folder.iterdir()}
    assert (made.int8 is None) == ("model.int8.onnx" not in names)
    assert made.int8 is None or made.int8.size < made.size


BLOCKED = """
import runpy, sys
for name in ("torch", "transformers", "undertone", "torchaudio", "scipy", "onnx"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_script(*arguments):
    return subprocess.run(
        [sys.executable, "-I", "-c", BLOCKED, *map(str, arguments)],
        capture_output=True, text=True, timeout=60, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_the_script_predicts_with_three_packages(exported, tmp_path):
    import soundfile

    model, made = exported("tiny-wav2vec2")
    script = made.folder / "predict.py"
    assert len(script.read_text().splitlines()) <= 80
    waves = [noise(0.5, 1), noise(0.01, 2), noise(1.5, 3)]
    for number, wave in enumerate(waves):
        soundfile.write(tmp_path / f"{number}.wav", np.stack([wave, wave], 1), 16000, subtype="FLOAT")
    answer = run_script(script, *(tmp_path / f"{number}.wav" for number in range(3)))
    assert answer.returncode == 0, answer.stderr
    emotion, arousal = torch_scores(model, waves)
    for number, line in enumerate(map(json.loads, answer.stdout.splitlines())):
        assert list(line) == ["file", "emotion", "arousal"] and line["file"] == str(tmp_path / f"{number}.wav")
        assert list(line["emotion"]) == ["angry", "happy", "sad"]
        np.testing.assert_allclose(list(line["emotion"].values()), emotion[number], atol=1e-4)
        assert line["arousal"]["arousal"] == pytest.approx(float(arousal[number, 0]), abs=1e-4)
    assert "python predict.py FILE.wav" in run_script(script).stderr


SLOW = pytest.mark.slow


@pytest.mark.parametrize("rate", [8000, 44100, *(pytest.param(rate, marks=SLOW) for rate in (22050, 48000))])
def test_the_script_resamples_as_undertone_does(rate, exported, tmp_path):
    import soundfile

    from undertone.audio.read import read_audio

    model, made = exported("tiny-wav2vec2")
    script = made.folder / "predict.py"
    soundfile.write(tmp_path / "a.wav", noise(0.7, rate)[: int(0.7 * rate)], rate, subtype="FLOAT")
    found = json.loads(run_script(script, tmp_path / "a.wav").stdout)
    emotion, _ = torch_scores(model, [read_audio(tmp_path / "a.wav", 16000).numpy()])
    np.testing.assert_allclose(list(found["emotion"].values()), emotion[0], atol=1e-4)


def test_one_bad_file_loses_no_other(tmp_path):
    import soundfile

    model = make_model("fbank", "attention", TASKS)
    script = to_onnx(model, tmp_path / "onnx").folder / "predict.py"
    soundfile.write(tmp_path / "good.wav", noise(0.5, 1), 16000, subtype="FLOAT")
    (tmp_path / "bad.wav").write_text("no sound")
    soundfile.write(tmp_path / "odd.wav", noise(0.5, 1), 44101)
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16000)
    names = ["bad.wav", "good.wav", "missing.wav", "odd.wav", "empty.wav", "good.wav"]
    answer = run_script(script, *(tmp_path / name for name in names))
    rows = [json.loads(line) for line in answer.stdout.splitlines()]
    assert [row["file"] for row in rows] == [str(tmp_path / name) for name in names]
    assert ["error" in row for row in rows] == [True, False, True, True, True, False]
    assert rows[1] == rows[5] and "share no large divisor" in rows[3]["error"] and rows[4]["error"] == "no samples"
    assert answer.returncode == 1 and answer.stderr.strip() == "4 of 6 files could not be predicted."


def test_the_script_refuses_more_than_the_model_takes(exported, tmp_path):
    import soundfile

    model, made = exported("tiny-whisper")
    script = made.folder / "predict.py"
    soundfile.write(tmp_path / "long.wav", noise(30.1, 0), 16000)
    answer = run_script(script, tmp_path / "long.wav")
    assert answer.returncode == 1 and "1 of 1 files could not be predicted." in answer.stderr
    assert json.loads(answer.stdout)["error"] == "30.1 s; the model takes at most 30 s. Cut it"
    soundfile.write(tmp_path / "whole.wav", noise(30, 0), 16000, subtype="FLOAT")
    found = json.loads(run_script(script, tmp_path / "whole.wav").stdout)["emotion"]
    emotion, _ = torch_scores(model, [noise(30, 0)])
    np.testing.assert_allclose(list(found.values()), emotion[0], atol=1e-4)


class Mine(Fbank):
    """A front-end from outside."""


KINDS = ("functionals", "jiang2022", "logmel", "waveform")  # of graphs; the spectrogram's is OF_LI2019's
FRONT_ENDS = [
    pytest.param(name, {}, marks=[] if name in KINDS else SLOW)
    for name in available("undertone.upstream.acoustic", BatchedAcoustic)
]
OF_LI2019 = ("spectrogram", {"window_ms": 40, "shape": "hamming", "max_hz": 4000})
OTHER_MELS = pytest.param("logmel", {"num_mels": 40}, marks=SLOW)


@pytest.mark.parametrize("name, options", [*FRONT_ENDS, OF_LI2019, OTHER_MELS])
def test_acoustic_front_ends_are_exported_too(name, options, tmp_path):
    model = make_model(load_upstream(name, options=options), "svm" if name == "functionals" else "attention", TASKS, 1)
    session = session_of(to_onnx(model, tmp_path / "onnx"))
    check_batches(session, model)
    check_batches(session, model, sound=voice)


SYSTEMS = [
    "crnn:small", "functionals", "huang2017:small", "jiang2022:small", "li2019:small", "transformer:small",
    "trigeorgis2016:small",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS)
def test_the_acoustic_systems_are_exported(system, tmp_path):
    settings = load_system(system)
    upstream = load_upstream(settings["upstream"], options=settings.get("upstream_options"))
    model = make_model(upstream, settings["head"], TASKS, 1, head_options=settings.get("head_options", {}))
    check_batches(session_of(to_onnx(model, tmp_path / "onnx")), model)


@pytest.mark.parametrize(
    "kind, reason",
    [
        (OpenSmile, "openSMILE's own program"),
        (Contours, "the logarithm of a matrix"),
        (Mine, "it is code from outside"),
    ],
)
def test_other_upstreams_are_refused_with_what_works(kind, reason, tmp_path):
    model = make_model("fbank", "attention", TASKS)
    model.upstream.__class__ = kind
    said = (
        f"Upstream 'fbank' cannot be exported to ONNX: {reason}.* What can be exported: fbank, functionals, jiang2022"
    )
    with pytest.raises(ValueError, match=said):
        to_onnx(model, tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()


def test_without_the_packages_it_says_how_to_get_them(tmp_path, monkeypatch):
    model = make_model(save_random("tiny-wav2vec2", tmp_path / "upstream"), "attention", TASKS)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        ValueError, match=r"no onnxruntime here. Install what it needs: pip install 'undertone\[onnx\]'"
    ):
        to_onnx(model, tmp_path / "onnx")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wav2vec2-base", "wavlm-base"])
def test_true_geometry(name, tmp_path):
    model = make_model(save_random(name, tmp_path / "upstream"), "attention", TASKS)
    made = to_onnx(model, tmp_path / "onnx")
    assert made.difference < 1e-4 and made.int8.size < 0.5 * made.size
    check_batches(session_of(made), model, BATCHES[:2])
