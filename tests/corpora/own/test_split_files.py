"""Split files as EmoBox, s3prl, SpeechBrain and tables write them, of a small EmoDB."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from undertone.corpora import load_corpus
from undertone.corpora.check_split import balance_table, check_parts, fingerprint
from undertone.corpora.fingerprint import split_fingerprint
from undertone.corpora.folds import Fold
from undertone.corpora.own.split_files import read_folds
from undertone.corpora.prepare import prepare

NAMES = ["03a01Wa", "03a02Nc", "08a01Fd", "09b03Ta", "10a02Wb", "10b03Na"]
TRAIN, TEST = NAMES[:3], NAMES[3:]


@pytest.fixture(scope="module")
def emodb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("emodb")
    (root / "wav").mkdir()
    for seed, name in enumerate(NAMES):
        soundfile.write(root / "wav" / f"{name}.wav", np.random.default_rng(seed).uniform(-0.3, 0.3, 4000), 16000)
    return root


def write(path: Path, names: list[str]) -> str:
    """A split file in the format that the name of its folder says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    emotions: Any = {name: name[5].lower() for name in names}
    if path.suffix == ".jsonl":  # EmoBox
        rows = [
            {
                "key": f"emodb-{name}",
                "dataset": "emodb",
                "wav": f"downloads/emodb/wav/{name}.wav",
                "emo": emotions[name],
            }
            for name in names
        ]
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    elif path.name.endswith("meta_data.json"):  # s3prl
        rows = [{"path": f"wav/{name}.wav", "label": emotions[name], "speaker": name[:2]} for name in names]
        path.write_text(json.dumps({"labels": {"w": 0, "n": 1, "f": 2, "t": 3}, "meta_data": rows}))
    elif path.suffix == ".json":  # SpeechBrain
        path.write_text(
            json.dumps(
                {
                    name: {"wav": f"{{data_root}}/wav/{name}.wav", "length": 0.25, "emo": emotions[name]}
                    for name in names
                }
            )
        )
    else:
        rows_ = [f"elsewhere/{name}.wav,{name[:2]},{emotions[name]}" for name in names]
        path.write_text("\n".join(["path,spk,label", *rows_]) + "\n")
    return str(path)


FORMATS = ["{}.jsonl", "{}_meta_data.json", "{}.json", "{}.csv"]


@pytest.mark.parametrize("form", FORMATS)
def test_files_are_looked_up_in_the_corpus(form: str, emodb: Path, tmp_path: Path) -> None:
    """The corpus knows speakers and sentences; the fingerprint is that of the same fold of ours."""
    files = [write(tmp_path / form.format(part), names) for part, names in {"train": TRAIN, "test": TEST}.items()]
    folds, notes = read_folds(files, "emodb", emodb)
    assert notes == [] and [some.ids for some in folds[""].values()] == [tuple(TRAIN), tuple(TEST)]
    assert [str(one) for one in check_parts(folds[""])[0]] == [
        "1 shared sentence, in 1 utterances of train and 1 of test: a02"
    ]
    ours = prepare(load_corpus("emodb"), emodb).manifest
    assert fingerprint(folds) == split_fingerprint([Fold("x", tuple(TRAIN), (), tuple(TEST))], ours)
    header, rows = balance_table(folds)
    assert header == ["Part", "Utterances", "Speakers", "angry", "happy", "neutral", "sad"]
    assert rows == [["train", "3", "2", "1", "1", "1", "0"], ["test", "3", "2", "1", "0", "1", "1"]]


@pytest.mark.parametrize("form", FORMATS)
def test_files_speak_for_themselves(form: str, emodb: Path, tmp_path: Path) -> None:
    leaked = [*TEST, NAMES[0]]
    files = [write(tmp_path / form.format(part), names) for part, names in {"train": TRAIN, "test": leaked}.items()]
    folds, notes = read_folds(files, root=emodb if "csv" not in form else emodb / "wav")
    found = {one.kind: one for one in check_parts(folds[""])[0]}
    assert notes == [] and found["recording"].num_test == 1 and len(fingerprint(folds)) == 16
    speakers = {"{}_meta_data.json": ("03",), "{}.csv": ("03",)}.get(form)
    assert (found["speaker"].names if "speaker" in found else None) == speakers
    assert balance_table(folds)[0][3:] == ["f", "n", "t", "w"]


def test_without_the_audio_what_is_left_is_compared_and_said(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{part}.csv", names) for part, names in {"train": TRAIN, "test": TEST[:1]}.items()]
    folds, notes = read_folds(files)
    assert "train.csv: none of its audio is under" in notes[0] and fingerprint(folds) == ""
    assert check_parts(folds[""])[0] == []


def test_a_folder_of_folds_in_two_formats(emodb: Path, tmp_path: Path) -> None:
    for number in (1, 2, 10):
        for part, names in {"train": NAMES[number % 3 :], "test": NAMES[: number % 3]}.items():
            for suffix in ("json", "jsonl"):
                write(tmp_path / f"fold_{number}" / f"emodb_{part}_fold_{number}.{suffix}", names)
    write(tmp_path / "label_map.jsonl", NAMES)
    folds, _ = read_folds([str(tmp_path)], "emodb", emodb)
    assert list(folds) == ["fold_1", "fold_2", "fold_10"] and list(folds["fold_2"]) == ["train", "test"]
    assert folds["fold_2"]["test"].ids == tuple(NAMES[:2]) and len(fingerprint(folds)) == 16
    assert balance_table(folds)[0][:2] == ["Fold", "Part"] and len(balance_table(folds)[1]) == 6


def test_one_file_with_a_column_split(emodb: Path, tmp_path: Path) -> None:
    rows = [f"{name}.wav,{part}" for name, part in zip(NAMES, ["train"] * 3 + ["valid"] + ["test"] * 2, strict=True)]
    table = tmp_path / "all.csv"
    table.write_text("\n".join(["filename,partition", *rows]) + "\n")
    for corpus, root in (("emodb", emodb), (None, emodb / "wav")):
        folds, _ = read_folds([str(table)], corpus, root)
        assert {part: len(some) for part, some in folds[""].items()} == {"train": 3, "dev": 1, "test": 2}
    table.write_text("filename\n03a01Wa.wav\n")
    with pytest.raises(ValueError, match="has no column split with train and test. Give two files"):
        read_folds([str(table)], "emodb", emodb)


def test_what_is_missing_or_doubled_is_said(emodb: Path, tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", [*TRAIN, TRAIN[0], "99a01Wa"])
    folds, notes = read_folds([train, write(tmp_path / "test.jsonl", TEST)], "emodb", emodb)
    assert notes == [
        "train.jsonl: 1 rows repeat another one.",
        "train.jsonl: 1 of 4 files are not in the corpus: downloads/emodb/wav/99a01Wa.wav.",
    ]
    assert len(folds[""]["train"]) == 3


def test_refusals(emodb: Path, tmp_path: Path) -> None:
    strange = tmp_path / "strange.json"
    strange.write_text('{"a": 1}')
    test = write(tmp_path / "test.jsonl", ["99a01Wa"])
    for paths, corpus, message in (
        ([str(strange), test], None, "its rows are no objects with a file and labels"),
        ([test, test], "emodb", "none of its 1 files is in the corpus"),
        ([test] * 4, None, "got 4 files. Give TRAIN TEST, or TRAIN DEV TEST"),
        ([str(emodb)], None, "has no folder with a train and a test file"),
    ):
        with pytest.raises(ValueError, match=message):
            read_folds(paths, corpus, emodb)
    strange.write_text("{")
    with pytest.raises(ValueError, match="Cannot read the split file"):
        read_folds([str(strange), test])
