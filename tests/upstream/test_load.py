"""Wrong names and specs: what was got, what is allowed."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from undertone.upstream import build_upstream, load_upstream
from undertone.upstream.hf.random_weights import save_random


def test_a_misspelt_front_end_names_the_nearest() -> None:
    with pytest.raises(
        ValueError, match=r"Unknown upstream 'fbnk'\. Did you mean 'fbank'\? Known: .*fbank, .*mfcc, spec"
    ):
        load_upstream("fbnk")


@pytest.mark.parametrize("name", ["./no/such/folder", "/no/such/folder", "a/b/c", "~/no-such-folder"])
def test_a_missing_folder(name: str) -> None:
    with pytest.raises(
        ValueError, match=f"No such folder: '{name}'. An upstream is an acoustic front-end, tiny, a Hub id"
    ):
        load_upstream(name)


def test_the_hub_out_of_reach(monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="Cannot read config.json of upstream 'nobody/nothing' on the Hub, and it"):
        load_upstream("nobody/nothing")


@pytest.mark.slow
def test_a_hub_id_in_the_cache_names_its_commit(tmp_path) -> None:
    commit = "a" * 40
    repository = tmp_path / "models--me--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    save_random("tiny-wavlm", repository / "snapshots" / commit)
    script = (
        "from undertone.upstream import load_upstream; u = load_upstream('me/tiny'); "
        "v = load_upstream('me/tiny', revision=u.commit); print(u.commit, u.spec()['commit'], v.revision)"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path)}
    output = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert output.stdout.split() == [commit] * 3


def test_an_empty_folder(tmp_path) -> None:
    with pytest.raises(ValueError, match="holds no config.json that names a model_type"):
        load_upstream(str(tmp_path))


def test_a_config_without_model_type(tmp_path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 32}))
    with pytest.raises(ValueError, match="names a model_type, so its architecture is unknown"):
        load_upstream(str(tmp_path))


def test_a_config_without_weights(tmp_path, tiny) -> None:
    (tmp_path / "config.json").write_text((tiny("tiny-wavlm") / "config.json").read_text())
    with pytest.raises(ValueError, match="Cannot read the weights of upstream"):
        load_upstream(str(tmp_path))


def test_truncated_weights(tmp_path, tiny) -> None:
    for file in tiny("tiny-wavlm").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(ValueError, match="Cannot read the weights of upstream"):
        load_upstream(str(tmp_path))


def test_options_and_revisions_where_there_are_none(tiny) -> None:
    with pytest.raises(ValueError, match=r"takes no options, got \['layers'\]"):
        load_upstream(str(tiny("tiny-wavlm")), options={"layers": 3})
    with pytest.raises(ValueError, match="has no revisions, got revision='main'"):
        load_upstream("fbank", revision="main")


def test_a_class_of_an_importable_module() -> None:
    named = load_upstream("undertone.upstream.acoustic.fbank:Fbank")
    assert named.fingerprint() == load_upstream("fbank").fingerprint()


def test_a_class_that_is_no_upstream() -> None:
    with pytest.raises(ValueError, match="is not a subclass of undertone.upstream.base.Upstream"):
        load_upstream("collections:OrderedDict")


def test_a_spec_of_no_kind_or_no_family(tiny) -> None:
    with pytest.raises(ValueError, match="has kind 'hf', 'class' or 'streams', got 'pickle'"):
        build_upstream({"kind": "pickle"})
    spec = load_upstream(str(tiny("tiny-wavlm"))).spec()
    spec["config"] |= {"model_type": "gpt2"}
    with pytest.raises(ValueError, match="is a 'gpt2' model, not a speech upstream: none of its parts takes audio"):
        build_upstream(spec)


def test_a_spec_with_an_outside_class_is_refused_without_importing_it() -> None:
    spec = {"kind": "class", "name": "no_such_package.module:Mine", "options": {}}
    with pytest.raises(ValueError, match=r"'no_such_package.module:Mine', code from.*allow=\('no_such_package',\)"):
        build_upstream(spec)
    with pytest.raises(ValueError, match="Cannot load 'no_such_package.module:Mine'"):
        build_upstream(spec, allow=("no_such_package",))
    with pytest.raises(ValueError, match="code from outside"):
        build_upstream(spec, allow=("no_such_pack",))
