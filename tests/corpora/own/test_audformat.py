"""audformat databases: ours read by audformat itself, and databases as audb publishes them read by us."""

from __future__ import annotations

import pickle
from pathlib import Path

import audformat
import numpy as np
import pandas
import pytest
import soundfile

from undertone.corpora import load_corpus
from undertone.corpora.manifest import Manifest
from undertone.corpora.prepare import prepare
from undertone.corpora.to_audformat import write_audformat

ROWS = """file,speaker,gender,emotion,arousal,take,split,start,end
0.wav,01,f,angry,0.75,1,train,,
1.wav,02,m,sad,0.25,2,train,0.1,0.3
1.wav,02,m,,0.5,,test,0.3,
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audformat")
    for number in range(3):
        soundfile.write(folder / f"{number}.wav", np.random.default_rng(number).uniform(-0.3, 0.3, 8000), 16000)
    (folder / "t.csv").write_text(ROWS)
    return folder


def test_ours_is_a_database(folder: Path, tmp_path: Path) -> None:
    corpus = load_corpus(str(folder / "t.csv"))
    manifest = prepare(corpus, None).manifest
    assert write_audformat(corpus, manifest, tmp_path / "db") == []
    database = audformat.Database.load(str(tmp_path / "db"))
    table = database["utterances"]
    assert database.license == "your own" and list(table.files) == [str(folder / f"{n}.wav") for n in (0, 1, 1)]
    assert table["emotion"].get().tolist()[:2] == ["angry", "sad"] and pandas.isna(table["emotion"].get().iloc[2])
    assert table["speaker"].get(map="gender").tolist() == ["female", "male", "male"]
    back = prepare(load_corpus(str(tmp_path / "db")), None).manifest
    for name in ("speaker", "gender", "emotion", "arousal", "split", "start", "end", "audio_hash", "corpus"):
        assert back.column(name) == manifest.column(name), name
    assert back.labels("take") == [1, 2, None]
    assert [path.suffix for path in (tmp_path / "db").iterdir() if path.suffix == ".pkl"] == []


def test_what_it_cannot_hold_is_said_and_a_gender_may_be_known_once(folder: Path, tmp_path: Path) -> None:
    more: list[dict[str, object]] = [
        {"votes": {"sad": 2}, "extra": {"emotion": "x"}},
        {"gender": "male", "series": "s.csv"},
        {},
    ]
    rows = [{"id": str(n), "path": f"{n}.wav", "speaker": "a", "emotion": "sad"} | row for n, row in enumerate(more)]
    assert write_audformat(load_corpus("emodb"), Manifest.from_rows("t", rows), tmp_path / "db") == [
        "votes of 1 utterances left out: the format has none",
        "series of 1 utterances left out: the format has none",
        "columns left out, whose names are those of fields: emotion",
    ]
    database = audformat.Database.load(str(tmp_path / "db"))
    assert database["utterances"]["speaker"].get(map="gender").tolist() == ["male"] * 3
    assert database.usage == "other" and database.license == load_corpus("emodb").licence


@pytest.fixture
def published(folder: Path, tmp_path: Path) -> Path:
    """As audb's databases are: relative files, the speaker in one table, emotions with a split in another."""
    database = audformat.Database("moods", source="https://moods.example", license="CC0-1.0")
    database.schemes["emotion"] = audformat.Scheme(labels=["anger", "sadness"])
    database.schemes["speaker"] = audformat.Scheme(labels={"a": {"gender": "female"}, "b": {"gender": "male"}})
    database.schemes["arousal"] = audformat.Scheme("float", minimum=1, maximum=5)
    database.splits["test"] = audformat.Split("test")
    names = [f"{number}.wav" for number in range(3)]
    database["files"] = audformat.Table(audformat.filewise_index(names))
    database["files"]["speaker"] = audformat.Column(scheme_id="speaker")
    database["files"]["speaker"].set(["a", "b", "a"])
    database["emotion"] = audformat.Table(audformat.filewise_index(names[1:]), split_id="test")
    for name, values in {"emotion": ["anger", "sadness"], "arousal": [1, 4]}.items():
        database["emotion"][name] = audformat.Column(scheme_id=name)
        database["emotion"][name].set(values)
    database.save(str(tmp_path), storage_format="csv")
    for name in names:
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    return tmp_path


def test_a_published_one_is_a_corpus(published: Path) -> None:
    corpus = load_corpus(str(published))
    assert (corpus.name, corpus.licence, corpus.url) == ("moods", "CC0-1.0", "https://moods.example")
    manifest = prepare(corpus, None).manifest
    assert manifest.ids == ("1.wav", "2.wav") and manifest.column("emotion") == ["anger", "sadness"]
    assert manifest.column("speaker") == ["b", "a"] and manifest.column("gender") == ["male", "female"]
    assert manifest.column("arousal") == [0.0, 0.75] and manifest.column("split") == ["test", "test"]


def test_what_is_refused(published: Path, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no table 'emotoin'. Did you mean 'emotion'"):
        list(load_corpus(str(published), {"table": "emotoin"}).rows(published))
    (published / "db.emotion.pkl").write_bytes(pickle.dumps(1))
    with pytest.raises(ValueError, match=r"db.emotion.pkl is a pickle, which may run code"):
        load_corpus(str(published))
    (published / "db.emotion.pkl").unlink()
    (published / "db.yaml").write_text("!!python/object/apply:os.system ['touch x']")
    with pytest.raises(ValueError, match="is no audformat database that can be read"):
        load_corpus(str(published))
    rows = [{"id": str(n), "path": f"{n}.wav", "speaker": "a", "gender": g} for n, g in enumerate(("female", "male"))]
    with pytest.raises(ValueError, match="Speaker a is female and male: correct it"):
        write_audformat(load_corpus(str(folder / "t.csv")), Manifest.from_rows("t", rows), tmp_path / "new")
