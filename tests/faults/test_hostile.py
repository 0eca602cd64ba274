"""Files made to harm: code in models, paths out of a folder, headers that lie. Each is refused, or does nothing."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from undertone.downstream.model import UndertoneModel
from undertone.inference.predict import load_model
from undertone.tests.cli.commands import undertone
from undertone.tests.faults.conftest import write_sound
from undertone.tests.faults.rules import attempt
from undertone.tests.faults.targets import model_folder, sound, upstream_folder, whole_model_folder
from undertone.upstream import load_upstream
from undertone.upstream.hf.adapt import add_lora, save_lora


class Bomb:
    """Unpickling it writes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.mark, "ran")


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """What exists once foreign code has run."""
    return tmp_path / "the code ran"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of a small model on fbank."""
    return Path(shutil.copytree(model_folder(), tmp_path / "model"))


def change(folder: Path, file: str = "config.json", **values: Any) -> Path:
    """Set keys of a JSON file."""
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return folder


def refusal(function: Callable[[], Any]) -> str:
    """The sentence that a line of ours raises."""
    sentence = attempt(function)
    assert sentence is not None
    return sentence


# ---- pickles


def test_the_bomb_works(mark: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.exists()


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.safetensors"])
def test_a_model_that_is_a_pickle(name: str, protocol: int, model: Path, mark: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / name).write_bytes(pickle.dumps(Bomb(mark), protocol))
    expected = "are damaged" if name == "model.safetensors" else "looked for config.json + model.safetensors"
    assert expected in refusal(lambda: load_model(model))
    assert not mark.exists()


def test_a_pickle_beside_the_weights_is_not_read(model: Path, mark: Path) -> None:
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt"):
        (model / name).write_bytes(pickle.dumps(Bomb(mark)))
    load_model(model)
    assert not mark.exists()


@pytest.mark.parametrize("zipped", [False, True])
def test_an_upstream_that_is_a_pickle(zipped: bool, tmp_path: Path, mark: Path) -> None:
    folder = tmp_path / "upstream"
    shutil.copytree(upstream_folder(), folder)
    (folder / "model.safetensors").unlink()
    if zipped:
        torch.save({"weight": Bomb(mark)}, folder / "pytorch_model.bin")
    else:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(mark)))
    assert "Cannot read the weights of upstream" in refusal(lambda: load_upstream(str(folder)))
    assert not mark.exists()


@pytest.fixture
def with_adapter(tmp_path: Path) -> Path:
    """A head-only model with LoRA adapters."""
    upstream = load_upstream(str(upstream_folder()))
    config = UndertoneModel.from_pretrained(whole_model_folder()).config
    config.upstream_hash = upstream.weights_hash()
    model = UndertoneModel(config, upstream)
    adapted = load_upstream(str(upstream_folder()))
    add_lora(adapted, rank=2, alpha=4, dropout=0.0)
    save_lora(adapted, tmp_path / "adapter")
    model.save_pretrained(tmp_path / "model", head_only=True)
    return Path(shutil.move(tmp_path / "adapter", tmp_path / "model" / "adapter")).parent


def test_an_adapter_that_is_a_pickle(with_adapter: Path, mark: Path) -> None:
    load_model(with_adapter)
    (with_adapter / "adapter" / "adapter_model.safetensors").unlink()
    (with_adapter / "adapter" / "adapter_model.bin").write_bytes(pickle.dumps(Bomb(mark)))
    assert "The adapters in" in refusal(lambda: load_model(with_adapter))
    assert not mark.exists()


def test_an_adapter_takes_nothing_but_its_scale_from_the_settings(
    with_adapter: Path, mark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil_core.py").write_text(f"open({str(mark)!r}, 'w').write('ran')")
    monkeypatch.syspath_prepend(tmp_path)
    change(with_adapter / "adapter", "adapter_config.json", megatron_config={"x": 1}, megatron_core="evil_core")
    change(
        with_adapter / "adapter", "adapter_config.json", target_modules="(a+)+$", r=10**9, base_model_name_or_path="/"
    )
    load_model(with_adapter)
    assert not mark.exists()
    change(with_adapter / "adapter", "adapter_config.json", lora_alpha="much")
    assert "cannot be read" in refusal(lambda: load_model(with_adapter))


# ---- code by name


@pytest.fixture
def evil(tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Python file that leaves the mark when it is run, importable as `evil_code`."""
    path = tmp_path / "evil_code.py"
    path.write_text(f"open({str(mark)!r}, 'w').write('ran')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return path


NAMES = ["os:system", "evil_code:Head", "./evil_code.py", "../evil_code.py", "{path}", "builtins:eval"]


@pytest.mark.parametrize("name", NAMES)
def test_a_config_that_names_a_head_elsewhere(name: str, model: Path, evil: Path, mark: Path) -> None:
    change(model, head=name.format(path=evil))
    assert "code from outside undertone. If you trust it, give --allow" in refusal(lambda: load_model(model))
    assert not mark.exists()


@pytest.mark.parametrize("head_only", [False, True])
@pytest.mark.parametrize("kind", ["class", "hf"])
@pytest.mark.parametrize("name", NAMES)
def test_a_config_that_names_an_upstream_elsewhere(
    name: str, kind: str, head_only: bool, model: Path, evil: Path, mark: Path
) -> None:
    change(model, upstream={"kind": kind, "name": name.format(path=evil)}, head_only=head_only)
    refusal(lambda: load_model(model))
    assert not mark.exists()
    if kind == "class":
        assert "code from outside undertone" in refusal(lambda: load_model(model))


@pytest.mark.parametrize("name", ["../../evil_code", "evil_code", "linear/../../evil_code", "..", "linear\0"])
def test_a_name_with_a_path_is_unknown(name: str, model: Path, evil: Path, mark: Path) -> None:
    change(model, head=name)
    assert "Unknown head" in refusal(lambda: load_model(model))
    assert not mark.exists()


FOREIGN = {
    "auto_map": {"AutoConfig": "evil_code.Config", "AutoModel": "evil_code.Model"},
    "trust_remote_code": True,
    "custom_pipelines": {"audio-classification": {"impl": "evil_code.Pipe"}},
}


def test_an_auto_map_is_not_followed(evil: Path, mark: Path, tmp_path: Path) -> None:
    upstream = tmp_path / "upstream"
    shutil.copytree(upstream_folder(), upstream)
    shutil.copy(evil, upstream / "evil_code.py")
    load_upstream(str(change(upstream, **FOREIGN)))
    whole = Path(shutil.copytree(whole_model_folder(), tmp_path / "whole"))
    spec = json.loads((whole / "config.json").read_text())["upstream"]
    shutil.copy(evil, whole / "evil_code.py")
    load_model(change(whole, **FOREIGN, upstream=spec | {"config": spec["config"] | FOREIGN}))
    assert not mark.exists()


@pytest.mark.parametrize(
    "setting",
    [
        {"attn_implementation": "someone/kernel"},
        {"_attn_implementation": "kernels-community/flash-attn"},
        {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}},
        {"num_hidden_layers": 10**9},
        {"conv_stride": [5, 0, 2, 2, 2, 2, 2]},
    ],
    ids=str,
)
def test_settings_that_would_run_code_or_not_end(setting: dict[str, Any], tmp_path: Path) -> None:
    upstream = Path(shutil.copytree(upstream_folder(), tmp_path / "upstream"))
    assert "which is not allowed" in refusal(lambda: load_upstream(str(change(upstream, **setting))))
    whole = Path(shutil.copytree(whole_model_folder(), tmp_path / "whole"))
    spec = json.loads((whole / "config.json").read_text())["upstream"]
    change(whole, upstream=spec | {"config": spec["config"] | setting})
    assert "which is not allowed" in refusal(lambda: load_model(whole))


# ---- paths


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder `root` with a sound, and one beside it."""
    write_sound(tmp_path / "root" / "in.wav", 200)
    write_sound(tmp_path / "secret" / "out.wav", 300)
    (tmp_path / "root" / "link.wav").symlink_to(tmp_path / "secret" / "out.wav")
    (tmp_path / "root" / "linked").symlink_to(tmp_path / "secret")
    return tmp_path


PATHS = ["../secret/out.wav", "{0}/secret/out.wav", "link.wav", "linked/out.wav", "x/../../secret/out.wav"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["table", "manifest"])
def test_with_root_no_entry_leads_out_of_it(kind: str, path: str, outside: Path) -> None:
    path = path.format(outside)
    entry = path if kind == "table" else str(outside / "root" / path)
    corpus = write_corpus(kind, outside, [str(outside / "root" / "in.wav"), entry])
    outcome = undertone("prepare", corpus, "--root", outside / "root", "--out", outside / "out")
    assert outcome.fails_with("1 paths lead out of --root", "omit --root"), outcome.err
    assert not (outside / "out").exists()


@pytest.mark.parametrize("column", ["series", "video", "boxes"])
def test_a_file_beside_the_audio_does_not_lead_out_of_root_either(column: str, outside: Path) -> None:
    (outside / "secret" / "values.csv").write_text("time,arousal\n0,1\n")
    (outside / "root" / "table.csv").write_text(f"file,emotion,{column}\nin.wav,sad,../secret/values.csv\n")
    outcome = undertone("prepare", outside / "root" / "table.csv", "--root", outside / "root", "--out", outside / "out")
    assert outcome.fails_with("1 paths lead out of --root"), outcome.err


@pytest.mark.parametrize("path", PATHS[:4])
@pytest.mark.parametrize("kind", ["table", "manifest"])
def test_without_root_paths_mean_what_they_say(kind: str, path: str, outside: Path) -> None:
    entry = str(outside / "root" / path.format(outside))
    outcome = undertone("prepare", write_corpus(kind, outside, [entry]), "--out", outside / "out")
    assert outcome.status == 0 and "(1 utterances)" in outcome.out, outcome.err


def write_corpus(kind: str, folder: Path, paths: list[str]) -> Path:
    """A table, or a prepared manifest, of these files."""
    if kind == "table":
        table = folder / "table.csv"
        table.write_text("file,emotion\n" + "".join(f"{path},sad\n" for path in paths))
        return table
    from undertone.corpora.manifest import Manifest

    rows = [{"id": str(number), "path": path, "emotion": "sad"} for number, path in enumerate(paths)]
    Manifest.from_rows("calls", rows).save(folder / "manifest")
    return folder / "manifest"


def test_the_name_of_a_manifests_corpus_is_no_path(outside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from undertone.corpora.manifest import Manifest

    monkeypatch.chdir(outside)
    (outside / "here").mkdir()
    monkeypatch.chdir(outside / "here")
    rows = [{"id": "a", "path": str(outside / "root" / "in.wav"), "corpus": "../../escaped/../x", "emotion": "sad"}]
    Manifest.from_rows("x", rows).save(outside / "manifest")
    assert undertone("prepare", outside / "manifest").status == 0
    assert {path.name for path in outside.iterdir()} == {"root", "secret", "manifest", "here"}


# ---- archives


def archives(folder: Path) -> list[Path]:
    """A zip and two tars whose members lead out of where they are unpacked."""
    wave = sound()
    with zipfile.ZipFile(folder / "evil.zip", "w") as packed:
        for name in ("../escaped.wav", "/tmp/undertone_escaped.wav", "data/../../escaped.wav"):
            packed.writestr(name, wave)
    for suffix in ("tar", "tar.gz"):
        with tarfile.open(folder / f"evil.{suffix}", "w:gz" if suffix.endswith("gz") else "w") as tape:
            for name in ("../escaped.wav", "data/../../escaped.wav"):
                member = tarfile.TarInfo(name)
                member.size = len(wave)
                tape.addfile(member, io.BytesIO(wave))
    return [folder / f"evil.{suffix}" for suffix in ("zip", "tar", "tar.gz")]


def test_an_archive_is_no_corpus_no_model_and_no_sound(model: Path, tmp_path: Path) -> None:
    """Nothing is ever unpacked."""
    (tmp_path / "a").mkdir()
    for archive in archives(tmp_path / "a"):
        before = sorted(tmp_path.rglob("*"))
        assert undertone("prepare", archive, "--out", tmp_path / "out").fails_with("Unknown corpus")
        assert undertone("prepare", "emodb", "--root", archive).fails_with("no such folder")
        assert undertone("predict", archive, archive).fails_with("No model in")
        assert undertone("predict", model, archive).status == 1
        assert "Unknown upstream" in (said := refusal(lambda a=archive: load_upstream(str(a)))) or "folder" in said
        assert sorted(tmp_path.rglob("*")) == before


def test_an_archive_inside_a_data_set_stays_inside_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    (tmp_path / "set" / "audio").mkdir(parents=True)
    archives(tmp_path / "set" / "audio")
    before = sorted(tmp_path.rglob("*"))
    attempt(lambda: undertone("prepare", f"hf:{tmp_path / 'set'}", "--out", tmp_path / "out"))
    new = [path for path in tmp_path.rglob("*") if path not in before]
    assert not [path for path in new if "escaped" in path.name], new
    assert not Path("/tmp/undertone_escaped.wav").exists()


# ---- headers that lie


def header(length: int, text: dict[str, Any] | bytes, data: bytes = b"") -> bytes:
    """A safetensors file of a header that claims `length` bytes."""
    content = text if isinstance(text, bytes) else json.dumps(text).encode()
    return struct.pack("<Q", length) + content + data


ENTRY = {"weight": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}
LIES = {
    "2**60 bytes of header": header(2**60, ENTRY, bytes(16)),
    "2**64 - 1 bytes of header": header(2**64 - 1, ENTRY, bytes(16)),
    "a header longer than the file": header(10_000, ENTRY),
    "data beyond the file": header(len(json.dumps(ENTRY)), ENTRY),
    "a shape of other size": header(
        78, b'{"weight":{"dtype":"F32","shape":[1000000,1000000],"data_offsets":[0,16]}}    ', bytes(16)
    ),
    "negative places": header(70, b'{"weight":{"dtype":"F32","shape":[2,2],"data_offsets":[-16,0]}}       ', bytes(16)),
    "overlapping places": header(
        len(json.dumps(ENTRY | {"bias": ENTRY["weight"]})), ENTRY | {"bias": ENTRY["weight"]}, bytes(16)
    ),
    "no JSON": header(16, b"{{{{{{{{{{{{{{{{", bytes(16)),
    "a shape that overflows": header(
        87, b'{"weight":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,16]}}     ', bytes(16)
    ),
    "nothing": b"",
}


@pytest.mark.parametrize("content", LIES.values(), ids=LIES.keys())
def test_a_safetensors_header_that_lies(content: bytes, model: Path, tmp_path: Path) -> None:
    (model / "model.safetensors").write_bytes(content)
    assert "are damaged" in refusal(lambda: load_model(model))
    upstream = Path(shutil.copytree(upstream_folder(), tmp_path / "upstream"))
    (upstream / "model.safetensors").write_bytes(content)
    assert "Cannot read the weights of upstream" in refusal(lambda: load_upstream(str(upstream)))
