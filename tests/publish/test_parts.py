"""What else a push does: pictures, a dry run, no upstream, no leftovers, no name of something else."""

from __future__ import annotations

import hashlib
import json
import re

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from undertone.publish.push import dry_run
from undertone.tests.publish.example import make_results, write_model, write_run

CODE = """
import time
time.sleep = lambda seconds: None  # between the client's own attempts
from undertone.publish.push import check_target, push
try:
    print({call})
except (ValueError, OSError) as error:
    print(f"{{type(error).__name__}}: {{error}}")
"""


@pytest.fixture
def ask(client):
    """`ask("push(...)")` -> what it returned, or the error's class and message."""

    def call(code, **env):
        answer = client(CODE.format(call=code), **env)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout.strip()

    return call


CONFUSION = {"emotion": [[9, 1, 0], [2, 3, 5], [0, 0, 0]], "gender": [[5, 5], [1, 9]], "removed": [[1]]}


@pytest.fixture
def run(tmp_path):
    folder = write_run(tmp_path / "emodb", confusion=CONFUSION)
    weights = {"downstream.layer_sum.logits": np.array([0.0, 1.0, 2.0], np.float32), "downstream.head.w": np.ones(2)}
    save_file(weights | {"upstream.model.w": np.ones(1000)}, folder / "model" / "model.safetensors")
    return folder


def test_pictures_go_with_the_card(hub, run, ask):
    first, again = ask(f"push({str(run)!r}, 'tester/emodb'), push({str(run)!r}, 'tester/emodb')").split()
    assert again == first, "pictures are the same bytes again"
    files = hub.files("tester/emodb")
    pictures = {name for name in files if name.endswith(".png")}
    assert pictures == {"confusion_emotion.png", "confusion_gender.png", "layer_weights.png"}
    assert all(files[name].startswith(b"\x89PNG") for name in pictures)
    card = files["README.md"].decode()
    assert all(f"]({name})" in card for name in pictures)


def test_a_push_removes_what_an_earlier_one_left(hub, run, ask):
    ask(f"push({str(run)!r}, 'tester/emodb')")
    (run / "results.json").write_text(json.dumps(make_results(confusion={"emotion": CONFUSION["emotion"]})))
    (run / "model" / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": 8000}))
    ask(f"push({str(run)!r}, 'tester/emodb')")
    first, second = hub.commits("tester/emodb")
    assert set(first.files) - set(second.files) == {"confusion_gender.png"}


OTHER = """
from huggingface_hub import HfApi
repo = HfApi().create_repo({!r}).repo_id
HfApi().upload_file(path_or_fileobj=b"{{}}", path_in_repo={!r}, repo_id=repo)
"""


@pytest.mark.parametrize("file", ["pytorch_model.bin", pytest.param("config.json", marks=pytest.mark.slow)])
def test_a_name_that_holds_something_else_is_taken(file, hub, run, ask, client):
    assert client(OTHER.format("tester/voices", file)).returncode == 0
    answer = ask(f"push({str(run)!r}, 'tester/voices')")
    assert answer == (
        f"ValueError: The name 'tester/voices' is taken: that repository holds {file} and no Undertone model. "
        f"Choose another name."
    )
    assert len(hub.commits("tester/voices")) == 1


def test_a_dry_run_writes_what_would_go_and_asks_nobody(hub, run, ask):
    folder, sizes = dry_run(run, "tester/emodb")
    assert folder == run.with_name("emodb-published") and hub.requests == []
    ask(f"push({str(run)!r}, 'tester/emodb')")
    sent = {name: data for name, data in hub.files("tester/emodb").items() if name != ".gitattributes"}
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == sent
    assert sizes == {name: len(data) for name, data in sorted(sent.items())}


def test_a_dry_run_replaces_its_own_folder_and_no_other(run):
    folder, sizes = dry_run(run, "tester/emodb")
    assert dry_run(run, "tester/emodb") == (folder, sizes)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="emodb-published holds notes.txt, which no dry run wrote. Move that folder"):
        dry_run(run, "tester/emodb")
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_model_of_the_hub_can_be_pushed_under_another_name(hub, run, ask):
    ask(f"push({str(run)!r}, 'tester/emodb'), push('tester/emodb', 'tester/copy')")
    first, second = hub.files("tester/emodb"), hub.files("tester/copy")
    assert first.keys() == second.keys() and b'load_model("tester/copy")' in second["README.md"]
    same = first.keys() - {"README.md"}
    assert {name: first[name] for name in same} == {name: second[name] for name in same}


def test_a_target_is_checked_before_anything_is_trained(hub, ask):
    assert ask("check_target('tester/new')") == "None" and hub.repos == {}
    assert "Give user/name" in ask("check_target('new')")
    assert "there is no token" in ask("check_target('tester/new')", HF_TOKEN=None)
    assert "The Hub does not accept the token (HTTP 401" in ask("check_target('tester/new')", HF_TOKEN="hf_stale")
    assert "Cannot reach the Hub" in ask("check_target('tester/new')", HF_ENDPOINT="http://127.0.0.1:9")


HUB_BASE = {"kind": "hf", "name": "tester/base", "commit": "0" * 40, "config": {}}


def frozen(run, mode="frozen", **upstream):
    """The run's upstream is one of the Hub."""
    config = json.loads((run / "model" / "config.json").read_text())
    config |= {"upstream": HUB_BASE | upstream, "head_only": False}
    (run / "model" / "config.json").write_text(json.dumps(config))
    (run / "config.json").write_text(json.dumps({"mode": mode}))


def test_head_only_leaves_the_upstream_out_and_names_it(run):
    frozen(run)
    folder, sizes = dry_run(run, "tester/head", head_only=True)
    assert set(load_file(folder / "model.safetensors")) == {"downstream.layer_sum.logits", "downstream.head.w"}
    assert json.loads((folder / "config.json").read_text())["head_only"] is True
    card = (folder / "README.md").read_text()
    assert "holds only the layer sum and the head" in card and "base_model: tester/base" in card
    whole, _ = dry_run(run, "tester/head")
    assert "upstream.model.w" in load_file(whole / "model.safetensors")
    assert "only the layer sum" not in (whole / "README.md").read_text()


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"mode": "finetune"}, "trained with mode=finetune, so its upstream is part of the model. Push it without"),
        ({"commit": None, "name": "/home/me/w2v"}, "The upstream 'w2v' is not on the Hub"),
    ],
)
def test_head_only_is_refused_where_the_upstream_is_not_the_hubs(run, changes, said):
    frozen(run, **changes)
    with pytest.raises(ValueError, match=said):
        dry_run(run, "tester/head", head_only=True)


def test_a_bare_folder_does_not_say_whether_its_upstream_was_trained(run):
    frozen(run)
    with pytest.raises(ValueError, match="For --head-only give the RUN that trained it."):
        dry_run(run / "model", "tester/head", head_only=True)


def test_the_adapters_of_a_lora_run_go_without_its_upstream(run):
    frozen(run, mode="lora")
    adapter = write_model(run / "adapter", **HUB_BASE) / "adapter"
    config = json.loads((run / "adapter" / "config.json").read_text())
    (run / "adapter" / "config.json").write_text(json.dumps(config | {"head_only": True}))
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "/home/someone/base"}))
    save_file({"lora_A": np.ones(2)}, adapter / "adapter_model.safetensors")
    folder, _ = dry_run(run, "tester/lora", head_only=True)
    assert json.loads((folder / "adapter" / "adapter_config.json").read_text()) == {
        "base_model_name_or_path": "tester/base",
        "revision": HUB_BASE["commit"],
    }
    card = (folder / "README.md").read_text()
    assert "base_model_relation: adapter" in card and "LoRA adapters (PEFT's format, in `adapter/`)" in card
    assert "| emotion | UAR |" in card, "the run's scores"
    (snippet,) = re.findall(r"```python\n(from peft.*?)```", card, re.DOTALL)
    assert f'AutoModel.from_pretrained("tester/base", revision="{HUB_BASE["commit"]}")' in snippet
    assert 'PeftModel.from_pretrained(upstream, "tester/lora", subfolder="adapter").merge_and_unload()' in snippet


def test_a_model_of_several_upstreams_names_each(run):
    """Without paths of this machine; the adapters of each stream lie in a folder of their own."""
    frozen(run, mode="lora")
    mfcc = {"stream": "mfcc", "kind": "class", "name": "mfcc", "options": {}}
    parts = {"streams": [{"stream": "ssl", **HUB_BASE}, mfcc]}
    several = {"upstream": {"kind": "streams", "name": "ssl=/home/me/base+mfcc", **parts}, "mode": "lora"}
    config = json.loads((run / "model" / "config.json").read_text()) | several
    (run / "model" / "config.json").write_text(json.dumps(config))
    write_model(run / "adapter")
    (run / "adapter" / "config.json").write_text(json.dumps(config | {"head_only": True}))
    adapter = run / "adapter" / "adapter" / "ssl"
    adapter.mkdir(parents=True)
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "/home/me/base"}))
    save_file({"lora_A": np.ones(2)}, adapter / "adapter_model.safetensors")
    folder, _ = dry_run(run, "tester/several", head_only=True)
    published = json.loads((folder / "config.json").read_text())["upstream"]
    assert published == several["upstream"] | {"name": "ssl=tester/base+mfcc"}
    base = json.loads((folder / "adapter" / "ssl" / "adapter_config.json").read_text())
    assert base == {"base_model_name_or_path": "tester/base", "revision": HUB_BASE["commit"]}
    card = (folder / "README.md").read_text()
    assert "the upstreams `ssl=tester/base+mfcc`" in card and "base_model: tester/base" in card
    assert "PeftModel" not in card and "/home/me" not in card
    parts["streams"][0] = {**parts["streams"][0], "name": "/home/me/base", "commit": None}
    (run / "adapter" / "config.json").write_text(json.dumps(config | {"upstream": several["upstream"] | parts}))
    with pytest.raises(ValueError, match="The upstream 'base' is not on the Hub, where others could find it"):
        dry_run(run, "tester/several", head_only=True)


def test_a_head_without_its_upstream_on_the_hub_is_not_pushed(hub, run, ask):
    frozen(run)
    answer = ask(f"push({str(run)!r}, 'tester/head', head_only=True)")
    assert answer.startswith("HubError: The Hub has no model 'tester/base', or it is private")
    assert hub.repos == {}
    assert ask(f"push({str(run)!r}, 'tester/head')").startswith(hub.endpoint), "a whole model needs nobody"


def test_a_connection_that_breaks_while_a_file_is_sent(hub, run, ask):
    hub.drop("PUT /lfs/*")
    answer = ask(f"push({str(run)!r}, 'tester/emodb')")
    assert answer.startswith("HubError: Cannot reach the Hub at http://127") and "Run the same command again" in answer
    assert hub.commits("tester/emodb") == []


def test_names_of_speakers_stay_unless_they_are_asked_for(tmp_path):
    names = ["Anna Example", "Bert Example"]
    folds = [{"name": name, "metrics": {}, "seconds": 1.0} for name in names]
    sweep = {"values": {"lr": [1, 2]}, "chosen": {name: {"lr": 1} for name in names}}
    warned = ["emotion 'sad' is tested but never trained in folds Anna Example, Bert Example: always wrong there."]
    changes = {"folds": folds, "sweep": sweep, "label_warnings": warned}
    run = write_run(tmp_path / "emodb", **changes, commands=["undertone crossval /home/anna/emodb"])
    config = json.loads((run / "model" / "config.json").read_text())
    trained_on = {"corpus": "emodb", "manifest_hash": "ab12", "speakers": names, "unknown_speakers": 0}
    (run / "model" / "config.json").write_text(json.dumps(config | {"trained_on": trained_on}))

    folder, _ = dry_run(run, "me/emodb")
    for path in folder.rglob("*"):
        assert path.is_dir() or b"Example" not in path.read_bytes(), path
    found = json.loads((folder / "config.json").read_text())["trained_on"]
    expected = sorted(hashlib.scrypt(name.encode(), salt=b"ab12", n=2**14, r=8, p=1, dklen=8).hex() for name in names)
    kept = {"corpus": "emodb", "manifest_hash": "ab12", "unknown_speakers": 0}
    assert found == kept | {"num_speakers": 2, "speaker_hashes": expected}
    results = json.loads((folder / "results.json").read_text())
    assert [fold["name"] for fold in results["folds"]] == ["fold 1", "fold 2"] == list(results["sweep"]["chosen"])
    assert "commands" not in results
    (warning,) = results["label_warnings"]
    assert warning.endswith("never trained in folds 1, 2: always wrong there.")
    assert f"- WARNING: {warning}" in (folder / "README.md").read_text()

    folder, _ = dry_run(run, "me/emodb", speaker_names=True)
    assert json.loads((folder / "config.json").read_text())["trained_on"] == trained_on
    assert [fold["name"] for fold in json.loads((folder / "results.json").read_text())["folds"]] == names
