"""Hugging Face data sets: files, saved ones and dictionaries of splits, their sound read by soundfile alone."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import soundfile

from undertone.corpora import load_corpus
from undertone.corpora.own.hf_dataset import HfDataset
from undertone.corpora.prepare import prepare

MAPPED = {"emotion": "label", "speaker": "spk"}


def sound(seed: int, kind: str = "FLAC") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.random.default_rng(seed).uniform(-0.3, 0.3, 8000), 16000, format=kind)
    return file.getvalue()


def table(*numbers: int, **columns: list[Any]) -> datasets.Dataset:
    """Rows of numbered sounds, of two classes in turn, with further columns."""
    data = {
        "audio": [{"bytes": sound(number), "path": f"{number}.flac"} for number in numbers],
        "label": [number % 2 for number in numbers],
        "spk": [f"s{number % 3}" for number in numbers],
        "age": [20 + number for number in numbers],
        **columns,
    }
    made = datasets.Dataset.from_dict(data).cast_column("audio", datasets.Audio(decode=False))
    return made.cast_column("label", datasets.ClassLabel(names=["angry", "sad"]))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    folder = tmp_path / "calls"
    folder.mkdir()
    table(0, 1, 2).to_parquet(folder / "train-0.parquet")
    table(3, 4).to_parquet(folder / "test-0.parquet")
    return folder


def test_parquet_files(parquet: Path, tmp_path: Path) -> None:
    corpus = load_corpus(f"hf:{parquet}", MAPPED)
    prepared = prepare(corpus, tmp_path / "files")
    manifest = prepared.manifest
    assert corpus.name == "calls" and prepared.formats == {(16000, 1): 5} and not prepared.broken
    assert manifest.ids == ("train/000000", "train/000001", "train/000002", "test/000000", "test/000001")
    assert manifest.column("emotion") == ["angry", "sad", "angry", "sad", "angry"]
    assert manifest.column("speaker") == ["s0", "s1", "s2", "s0", "s1"]
    assert manifest.column("split") == ["train"] * 3 + ["test"] * 2
    assert manifest.labels("age") == [20, 21, 22, 23, 24]
    first = Path(manifest[0].path)
    assert first == tmp_path / "files" / f"{hashlib.sha256(sound(0)).hexdigest()}.flac"
    assert first.read_bytes() == sound(0), "the very bytes of the data set"
    assert len(list((tmp_path / "files").iterdir())) == 5


def test_files_are_written_once(parquet: Path, tmp_path: Path) -> None:
    corpus = load_corpus(f"hf:{parquet}", MAPPED)
    before = prepare(corpus, tmp_path / "files").manifest
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "files").iterdir()}
    assert list(prepare(corpus, tmp_path / "files").manifest) == list(before)
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "files").iterdir()}


def test_one_split_has_no_split_column(parquet: Path, tmp_path: Path) -> None:
    manifest = prepare(load_corpus(f"hf:{parquet}", {**MAPPED, "split": "test"}), tmp_path / "files").manifest
    assert manifest.ids == ("test/000000", "test/000001") and manifest.column("split") == [None, None]


def test_saved_ones(tmp_path: Path) -> None:
    table(0, 1).save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": table(0), "validation": table(1)}).save_to_disk(tmp_path / "two")
    one = prepare(load_corpus(f"hf:{tmp_path / 'one'}", MAPPED), tmp_path / "files").manifest
    two = prepare(load_corpus(f"hf:{tmp_path / 'two'}", MAPPED), tmp_path / "files").manifest
    assert one.ids == ("all/000000", "all/000001") and one.column("split") == [None, None]
    assert two.column("split") == ["train", "dev"] and two.column("emotion") == ["angry", "sad"]


def test_columns_of_our_names_need_no_option(tmp_path: Path) -> None:
    made = table(0, 1, gender=["F", None], arousal=[0.25, 1.0]).rename_columns({"label": "emotion", "spk": "speaker"})
    made.save_to_disk(tmp_path / "one")
    manifest = prepare(load_corpus(f"hf:{tmp_path / 'one'}"), tmp_path / "files").manifest
    assert [(u.emotion, u.speaker, u.gender, u.arousal, u.extra) for u in manifest] == [
        ("angry", "s0", "female", 0.25, {"age": 20}),
        ("sad", "s1", None, 1.0, {"age": 21}),
    ]


def test_sound_in_files_of_its_own_stays_there(tmp_path: Path) -> None:
    (tmp_path / "a.flac").write_bytes(sound(0))
    made = datasets.Dataset.from_dict({"file": [str(tmp_path / "a.flac")], "emotion": ["sad"]})
    made.save_to_disk(tmp_path / "one")
    manifest = prepare(load_corpus(f"hf:{tmp_path / 'one'}", {"audio": "file"}), tmp_path / "files").manifest
    assert manifest[0].path == str(tmp_path / "a.flac") and not (tmp_path / "files").exists()


def test_a_missing_label_is_none_and_broken_sound_is_set_aside(tmp_path: Path) -> None:
    broken = [{"bytes": sound(0), "path": "a.flac"}, {"bytes": b"no sound", "path": None}]
    table(0, 1, audio=broken, label=[-1, 1]).save_to_disk(tmp_path / "one")
    prepared = prepare(load_corpus(f"hf:{tmp_path / 'one'}", MAPPED), tmp_path / "files")
    assert prepared.manifest.column("emotion") == [None] and len(prepared.broken) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"emotion": "labl"}, r"has no column 'labl'. Did you mean 'label'\? .*Choose one: corpus.emotion=COLUMN"),
        ({"audio": "sound"}, r"has no column 'sound'.*Known: age, audio, label, spk. Choose one: corpus.audio=COLUMN"),
        ({"audio": "age"}, r"the column 'age' holds no audio files, but Value. Choose another"),
        ({"split": "trian"}, r"has no split 'trian'. Did you mean 'train'\? Known: test, train"),
        ({"gender": "spk"}, r"column gender has 's0' \(row 0\), .*; allowed: f, female, w"),
        ({"arousal": "age"}, r"row 0: arousal is 20; it must be from 0 to 1. Rescale"),
        ({"emotoin": "label"}, r"has no option 'emotoin'. Did you mean 'emotion'"),
    ],
)
def test_mistakes(parquet: Path, tmp_path: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(load_corpus(f"hf:{parquet}", options), tmp_path / "files")


def test_a_row_without_sound_is_named(tmp_path: Path) -> None:
    table(0, 1, audio=[{"bytes": sound(0), "path": None}, None]).save_to_disk(tmp_path / "one")
    with pytest.raises(ValueError, match="row 1: the column 'audio' is empty"):
        prepare(load_corpus(f"hf:{tmp_path / 'one'}", MAPPED), tmp_path / "files")


def test_what_cannot_be_loaded_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        ValueError, match=r"Cannot load the dataset .*empty': .*doesn't contain any data files\. Give hf:"
    ):
        prepare(load_corpus(f"hf:{tmp_path / 'empty'}"), tmp_path / "files")
    with pytest.raises(ValueError, match="Cannot load the dataset 'nobody/none'"):
        prepare(load_corpus("hf:nobody/none"), tmp_path / "files")


def test_neither_torchcodec_nor_torch_is_needed(parquet: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from undertone.corpora import load_corpus;"
        f"rows = list(load_corpus('hf:{parquet}', {MAPPED!r}).rows(Path({str(tmp_path / 'files')!r})));"
        "print(len(rows), 'torchcodec' in sys.modules)"
    )
    env = os.environ | {"HF_HOME": str(tmp_path / "home")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.split() == ["5", "False"]


@pytest.mark.parametrize(
    "where",
    [
        "http://127.0.0.1:{port}/x.csv",
        "{elsewhere}/s.csv",
        "../elsewhere/s.csv",
        "data/../../elsewhere/s.csv",
        "zip://s.csv::{elsewhere}/x.zip",
        "~/s.csv",
    ],
)
@pytest.mark.parametrize(
    "form", ["  data_files: {!r}", "  data_files:\n  - split: train\n    path:\n    - {!r}", "  data_dir: {!r}"]
)
def test_a_folder_on_disk_reads_nothing_from_the_network_or_elsewhere(tmp_path: Path, where: str, form: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "s.csv").write_text("audio\nhunter2\n")
    folder = tmp_path / "set"
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        text = where.format(port=server.getsockname()[1], elsewhere=tmp_path / "elsewhere")
        (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n{form.format(text)}\n---\n")
        with pytest.raises(ValueError, match="README.md lists .* as data, which is not in the folder"):
            list(HfDataset(str(folder)).rows(tmp_path / "root"))
        with pytest.raises(BlockingIOError):
            server.accept()  # nobody asked


def test_a_readme_that_names_its_own_files_is_read(tmp_path: Path) -> None:
    (tmp_path / "set" / "data").mkdir(parents=True)
    (tmp_path / "set" / "data" / "s.csv").write_text("audio,emotion\na.wav,sad\n")
    (tmp_path / "set" / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files: data/*.csv\n---\n"
    )
    (table,) = HfDataset(str(tmp_path / "set"))._splits().values()
    assert list(table) == [{"audio": "a.wav", "emotion": "sad"}]
