"""Loading from the Hub what was pushed without its upstream, and when a download breaks off or is refused."""

from __future__ import annotations

import json
from fnmatch import fnmatch

import pytest

from undertone.tests.publish.repository import INITIAL, Blob, Commit, Repo

MAKE = """
import json, sys, torch
from pathlib import Path
from huggingface_hub import HfApi
from undertone.downstream.config import UndertoneConfig
from undertone.downstream.model import UndertoneModel
from undertone.inference.predict import Predictor
from undertone.publish.push import push
from undertone.upstream import load_upstream
from undertone.upstream.hf.adapt import add_lora, merge_lora
from undertone.upstream.hf.random_weights import save_random
import copy

torch.set_num_threads(1)
root, wave = Path(sys.argv[1]), torch.randn(9000, generator=torch.Generator().manual_seed(0)) * 0.1
HfApi().create_repo("tester/base")
HfApi().upload_folder(repo_id="tester/base", folder_path=save_random("tiny-wav2vec2", root / "base"))
upstream = load_upstream("tester/base")
tasks = [{"name": "emotion", "kind": "classification", "labels": ["angry", "sad"]}]
config = UndertoneConfig(upstream=upstream.spec(), upstream_hash=upstream.weights_hash(), head="linear", tasks=tasks)
model = UndertoneModel(config, upstream)
predictions = {}
for mode in ("frozen", "lora"):
    (root / mode).mkdir()
    (root / mode / "config.json").write_text(json.dumps({"mode": mode}))
    model.save_pretrained(root / mode / "model")
    if mode == "lora":
        adapted = copy.deepcopy(upstream)
        add_lora(adapted, rank=2, alpha=8, dropout=0.0)
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight)
        model.save_pretrained(root / mode / "adapter", head_only=True, adapter=adapted)
        merge_lora(adapted)
        model.upstream = adapted
    push(root / mode, f"tester/{mode}", head_only=True)
    predictions[mode] = Predictor(model).predict_wave(wave, 16000)
print(json.dumps(predictions))
"""
LOAD = """
import sys, time
time.sleep = lambda seconds: None  # between the client's own attempts
import json, torch
torch.set_num_threads(1)
from undertone import load_model
wave = torch.randn(9000, generator=torch.Generator().manual_seed(0)) * 0.1
for name in sys.argv[1:]:
    try:
        print(json.dumps(load_model(name, device="cpu").predict_wave(wave, 16000)))
    except (ValueError, OSError) as error:
        print(f"{type(error).__name__}: {error}")
"""


@pytest.fixture
def pushed(hub, client, tmp_path):
    """{mode: prediction} of the models that were pushed without their upstream, tester/base."""
    answer = client(MAKE, str(tmp_path))
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout.splitlines()[-1])


def copy_of(hub, base):
    """The files of tester/frozen as another repository, on another upstream."""
    files = dict(hub.repos["tester/frozen"].commits[-1].files)
    config = files["config.json"].data.replace(b"tester/base", base.encode())
    return Repo(False, [INITIAL, Commit("copy", files | {"config.json": Blob(config, lfs=False)}, INITIAL.oid)])


@pytest.mark.slow
def test_heads_and_adapters_find_their_upstream_or_say_what_is_wrong(hub, client, pushed, tmp_path):
    assert pushed["frozen"] != pushed["lora"]
    assert set(hub.files("tester/lora")) >= {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"}
    sizes = [len(hub.files(name)["model.safetensors"]) for name in ("tester/frozen", "tester/base")]
    assert sizes[0] < 0.5 * sizes[1]
    hub.repos["tester/shut"] = Repo(False, hub.repos["tester/base"].commits, gated=True)
    hub.repos["tester/on-shut"], hub.repos["tester/on-none"] = copy_of(hub, "tester/shut"), copy_of(hub, "tester/none")
    hub.repos["tester/broken"] = copy_of(hub, "tester/base")
    hub.drop("GET /tester/broken/resolve/*/model.safetensors")
    hub.drop("GET /tester/base/resolve/*/model.safetensors", times=1)

    names = ("tester/frozen", "tester/lora", "tester/on-shut", "tester/on-none", "tester/broken", "tester/shut")
    answer = client(LOAD, *names, HF_HOME=str(tmp_path / "another"))
    assert answer.returncode == 0, answer.stderr
    frozen, lora, on_shut, on_none, broken, shut = answer.stdout.splitlines()
    assert json.loads(frozen) == pushed["frozen"] and json.loads(lora) == pushed["lora"]
    asked = [request for request in hub.requests if fnmatch(request, "GET /tester/base/resolve/*/model.safetensors")]
    assert len(asked) == 3, "by the maker, the one that broke off, and again"

    start = "ValueError: This folder holds a head alone, which needs its upstream. Cannot read config.json of upstream "
    assert on_shut.startswith(f"{start}'tester/shut'")
    assert f"Ask for access at {hub.endpoint}/tester/shut, then sign in: hf auth login." in on_shut
    assert on_none.startswith(f"{start}'tester/none'") and "if it is private, sign in: hf auth login." in on_none
    assert broken.startswith("HubError: ") and "Run the same command again" in broken
    assert "'tester/shut' is gated (HTTP 403" in shut and "Ask for access at" in shut
