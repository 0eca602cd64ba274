"""The manifest: what goes in comes out, also through the disk; its hash is of the contents, not of the place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from undertone.corpora.manifest import Manifest, Utterance

ROWS: list[dict[str, Any]] = [
    {
        "id": "b",
        "path": "/x/b.wav",
        "speaker": "01",
        "gender": "female",
        "emotion": "sad",
        "audio_hash": "2",
        "size": 5,
    },
    {"id": "a", "path": "/x/a.wav", "speaker": "02", "emotion": None, "start": 0.5, "end": 2.0, "arousal": 0.25},
    {"id": "ü c", "path": "/x/c.wav", "votes": {"sad": 2, "angry": 0.5}, "extra": {"age": 31, "place": "Köln"}},
]


def changed(row: int, **fields: Any) -> Manifest:
    return Manifest.from_rows("toy", [one | fields if number == row else one for number, one in enumerate(ROWS)])


@pytest.fixture
def manifest() -> Manifest:
    return Manifest.from_rows("toy", ROWS)


@pytest.mark.parametrize("lacking", [("video", "boxes"), ("overlap", "video", "boxes")])
def test_a_manifest_of_an_earlier_version_is_read(manifest: Manifest, lacking: tuple[str, ...], tmp_path: Path) -> None:
    import pyarrow

    path = manifest.save(tmp_path)
    with pyarrow.OSFile(str(path), "rb") as source:
        table = pyarrow.ipc.open_stream(source).read_all().drop_columns(list(lacking))
    with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    earlier = Manifest.load(tmp_path)
    assert list(earlier) == list(manifest) and earlier.hash == manifest.hash


def test_rows_come_back_in_order(manifest: Manifest) -> None:
    assert len(manifest) == 3 and manifest.ids == ("b", "a", "ü c")
    assert list(manifest) == [Utterance(**{"corpus": "toy", **row}) for row in ROWS]
    assert manifest[-1].votes == {"sad": 2, "angry": 0.5} and manifest[1].gender is None


def test_columns(manifest: Manifest) -> None:
    assert manifest.column("emotion") == ["sad", None, None]
    assert manifest.column("arousal") == [None, 0.25, None]
    assert manifest.labels("age") == [None, None, 31] and manifest.extra_columns == ("age", "place")
    assert manifest.column("votes") == [None, None, {"sad": 2, "angry": 0.5}]
    with pytest.raises(ValueError, match="no field 'age'. It has id"):
        manifest.column("age")
    with pytest.raises(ValueError, match="no label 'emotoin'. It has emotion, .*dominance, age, place"):
        manifest.labels("emotoin")


def test_select_keeps_the_order_asked_for(manifest: Manifest) -> None:
    assert manifest.select(["ü c", "b", "ü c"]) == [manifest[2], manifest[0], manifest[2]]
    assert manifest.select([]) == []
    with pytest.raises(ValueError, match="1 of 2 ids are not in the manifest: z"):
        manifest.select(["b", "z"])


def test_saved_and_loaded(manifest: Manifest, tmp_path: Path) -> None:
    manifest.save(tmp_path / "deep" / "m")
    loaded = Manifest.load(tmp_path / "deep" / "m")
    assert list(loaded) == list(manifest) and loaded.hash == manifest.hash
    assert loaded.dataset.cache_files, "the table must be mapped from disk, not held in memory"
    changed(0, emotion="angry").save(tmp_path / "deep" / "m")  # replaces it in one step
    assert Manifest.load(tmp_path / "deep" / "m")[0].emotion == "angry" and loaded[0].emotion == "sad"
    assert [path.name for path in (tmp_path / "deep" / "m").iterdir()] == ["manifest.arrow"]


def test_load_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"No manifest in .*undertone prepare"):
        Manifest.load(tmp_path)


def test_hash_is_of_the_contents(manifest: Manifest) -> None:
    here = manifest.hash
    assert changed(0, path="/y/b.wav", size=7, mtime_ns=9, series="/y/s.csv").hash == here
    assert Manifest.from_rows("toy", ROWS[::-1]).hash == here
    changes: list[dict[str, Any]] = [
        {"speaker": "03"}, {"emotion": "angry"}, {"gender": "male"}, {"audio_hash": "3"}, {"start": 0.1}, {"end": 9.0},
        {"split": "test"}, {"session": "1"}, {"valence": 0.1}, {"votes": {"sad": 1}}, {"extra": {"age": 3}},
        {"id": "d"},
    ]  # fmt: skip
    hashes = {changed(0, **change).hash for change in changes}
    assert len(hashes | {here}) == len(changes) + 1
    assert Manifest.from_rows("other", ROWS).hash != here


def test_bad_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="'toy' would be empty"):
        Manifest.from_rows("toy", [])
    with pytest.raises(ValueError, match="1 repeat in 'toy': b"):
        Manifest.from_rows("toy", [*ROWS, ROWS[0]])
    with pytest.raises(ValueError, match="unknown fields age.*`extra`"):
        Manifest.from_rows("toy", [ROWS[0] | {"age": 3}])
    with pytest.raises(ValueError, match="no id or no path"):
        Manifest.from_rows("toy", [{"id": "a"}])
