"""A model goes to the Hub and comes back in another process with the same predictions, bit for bit."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from undertone.common.hub_client import find_model
from undertone.downstream.config import UndertoneConfig
from undertone.downstream.model import UndertoneModel
from undertone.downstream.task import Task
from undertone.inference.predict import load_model
from undertone.upstream import load_upstream
from undertone.upstream.hf.random_weights import save_random

torch.set_num_threads(1)  # as in the client's processes: the same sums in the same order
PUSH = "from undertone.publish.push import push; print(push({!r}, 'tester/tiny'))"
FIND = """
from undertone.common.hub_client import find_model
try:
    print(find_model({!r}, revision={!r}))
except (ValueError, OSError) as error:
    print(f"{{type(error).__name__}}: {{error}}")
"""
SETTINGS = """
import sys, time
waited = []
time.sleep = waited.append
from undertone.common.hub_client import model_settings
try:
    print(model_settings(sys.argv[1]))
except OSError as error:
    print(f"{type(error).__name__}: {error} After {sum(waited)} s")
"""
PREDICT = """
import json
from undertone import load_model
print(json.dumps([load_model("tester/tiny", revision=revision, device="cpu").predict({!r}) for revision in {!r}]))
"""


@pytest.fixture
def folder(tmp_path):
    """A tiny wav2vec 2.0 with random weights and a head, saved."""
    torch.manual_seed(0)
    upstream = load_upstream(str(save_random("tiny-wav2vec2", tmp_path / "upstream")))
    tasks = [Task("emotion", "classification", ("angry", "sad")), Task("arousal", "regression", ("arousal",))]
    config = UndertoneConfig(
        upstream=upstream.spec(), upstream_hash=upstream.weights_hash(), tasks=[task.to_dict() for task in tasks]
    )
    UndertoneModel(config, upstream).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def sounds(tmp_path):
    random = np.random.default_rng(0)
    for name, seconds in {"a.wav": 0.7, "b.wav": 0.3}.items():
        soundfile.write(tmp_path / name, 0.1 * random.standard_normal(int(16000 * seconds)), 16000)
    return [str(tmp_path / "a.wav"), str(tmp_path / "b.wav")]


def answer_of(process):
    assert process.returncode == 0, process.stderr
    return process.stdout.strip().splitlines()[-1]


def change(folder):
    """Save the model with another head."""
    model = UndertoneModel.from_pretrained(folder)
    with torch.no_grad():
        for parameter in model.downstream.parameters():
            parameter.add_(0.1)
    model.save_pretrained(folder)


def test_pushed_loaded_and_predicted(hub, client, folder, sounds):
    local = load_model(folder, device="cpu").predict(sounds)
    first_url = answer_of(client(PUSH.format(str(folder))))
    sent, kept = hub.files("tester/tiny")["model.safetensors"], (folder / "model.safetensors").read_bytes()
    assert hashlib.sha256(sent).hexdigest() == hashlib.sha256(kept).hexdigest()
    change(folder)
    changed = load_model(folder, device="cpu").predict(sounds)
    assert answer_of(client(PUSH.format(str(folder)))) != first_url
    first, second = hub.commits("tester/tiny")
    assert first.files["model.safetensors"] != second.files["model.safetensors"]
    found = json.loads(answer_of(client(PREDICT.format(sounds, [None, first.oid]))))
    assert found == [changed, local] != [local, local], "to the last bit"
    fetched = {request.rsplit("/", 1)[1] for request in hub.requests if "/resolve/" in request}
    assert fetched == {"config.json", "model.safetensors", "preprocessor_config.json"}, "the card and the rest stay"

    asked = len(hub.requests)
    cached = Path(answer_of(client(FIND.format("tester/tiny", None), HF_HUB_OFFLINE="1")))
    assert (cached / "model.safetensors").read_bytes() == second.files["model.safetensors"].data
    assert len(hub.requests) == asked, "offline: from the cache alone"


def test_what_cannot_be_fetched_is_a_sentence(hub, client):
    def asked(where, revision=None, **env):
        return answer_of(client(FIND.format(where, revision), **env))

    start = "HubError: There is no folder tester/none, and it cannot be loaded from the Hub. "
    assert asked("tester/none").startswith(f"{start}The Hub has no model 'tester/none', or it is private")
    assert asked("tester/none", HF_HUB_OFFLINE="1").startswith(f"{start}HF_HUB_OFFLINE is set")
    assert asked("tester/none", HF_ENDPOINT="http://127.0.0.1:9").startswith(
        f"{start}Cannot reach the Hub at http://127"
    )
    made = "from huggingface_hub import HfApi; HfApi().create_repo('tester/other', private=True)"
    assert client(made).returncode == 0
    assert asked("tester/other") == (
        "ValueError: 'tester/other' on the Hub is not a model that Undertone trained: "
        "it has no config.json and no model.safetensors."
    )
    assert "'tester/other' has no such revision (HTTP 404: Invalid rev id: v2)" in asked("tester/other", "v2")
    assert "or it is private and you are not signed in" in asked("tester/other", HF_TOKEN=None)
    hub.fail("GET /api/models/*", 503)
    assert "The Hub has a server error (HTTP 503" in asked("tester/other2")


def test_where_no_hub_is_one_waits_for_three_seconds(hub, client):
    answer = answer_of(client(SETTINGS, "tester/none", HF_ENDPOINT="http://127.0.0.1:9"))
    assert "Cannot reach the Hub at http://127.0.0.1:9 (ConnectError" in answer and answer.endswith("After 3 s")
    made = "from huggingface_hub import HfApi; HfApi().create_repo('tester/new'); HfApi().upload_file("
    made += "path_or_fileobj=b'[1]', path_in_repo='config.json', repo_id='tester/new')"
    assert client(made).returncode == 0
    hub.drop("HEAD /*", times=3)
    assert answer_of(client(SETTINGS, "tester/new")) == "[1]", "the client tries again what breaks off"
    assert answer_of(client(SETTINGS, "tester/new", HF_ENDPOINT="http://127.0.0.1:9")) == "[1]", "of the cache"


def test_what_is_no_hub_id_is_not_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for where in ("nowhere", "./runs/emodb", "runs/2024/emodb", str(tmp_path / "no" / "such")):
        with pytest.raises(ValueError, match="there is no such folder. Give a model folder, a run, or a Hub id"):
            find_model(where)
