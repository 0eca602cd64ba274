"""`undertone listen` on a pipe: the windows of the same audio in a file."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from undertone.inference.predict import load_model
from undertone.inference.windows import predict_windows


def listen(model_folder, *options, pcm=b""):
    command = [sys.executable, "-m", "undertone.cli", "listen", str(model_folder), *options]
    return subprocess.run(command, input=pcm, capture_output=True, timeout=120)


@pytest.mark.slow
def test_a_pipe_gives_the_windows_of_a_file(trained, tmp_path):
    model_folder = trained()
    samples = (3000 * np.random.default_rng(0).standard_normal(3 * 8000 + 5)).astype("<i2")
    soundfile.write(tmp_path / "a.wav", samples, 8000)
    done = listen(
        model_folder, "-", "--rate", "8000", "--window", "1", "--hop", "0.5", "--json", "--any-sound",
        pcm=samples.tobytes() + b"\x01",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    model = load_model(model_folder, device="cpu").model
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    expected = list(predict_windows(model, tmp_path / "a.wav", window=1, hop=0.5, any_sound=True))
    assert [(row["start"], row["end"]) for row in rows] == [(row["start"], row["end"]) for row in expected]
    for row, other in zip(rows, expected, strict=True):
        assert row["emotion"]["label"] == other["emotion"]["label"]
        assert row["emotion"]["scores"] == pytest.approx(other["emotion"]["scores"], abs=1e-5)
    lines = (
        listen(model_folder, "-", "--window", "1", "--hop", "1", "--speech-only", pcm=bytes(2 * 16_000))
        .stdout.decode()
        .splitlines()
    )
    assert lines == ["   0.0 -    1.0 s  silence"]


def test_what_is_no_source_is_named(tmp_path):
    done = listen(tmp_path, "a.wav")
    assert done.returncode == 2 and b"undertone predict MODEL a.wav" in done.stderr
