import os
from pathlib import Path

import pytest

from undertone.files import atomic_path, read_json, remove_folder, write_json


def test_a_file_is_replaced_whole(tmp_path):
    target = tmp_path / "a.json"
    write_json(target, {"x": 1})
    write_json(target, {"x": 2})
    assert read_json(target) == {"x": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_is_replaced_whole(tmp_path):
    for number in (1, 2):
        with atomic_path(tmp_path / "folder") as draft:
            draft.mkdir()
            (draft / f"{number}.txt").write_text("x")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["2.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_failure_leaves_what_was_there(tmp_path):
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "a.json") as draft:
        draft.write_text("half")
        raise RuntimeError
    assert read_json(tmp_path / "a.json") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_what_was_written_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(
        "os.fsync", lambda descriptor: done.append(f"sync {os.readlink(f'/proc/self/fd/{descriptor}')}")
    )
    monkeypatch.setattr("os.replace", lambda draft, target: (done.append(f"name {target}"), Path(draft).rename(target)))
    with atomic_path(tmp_path / "folder") as draft:
        draft.mkdir()
        (draft / "weights").write_text("x")
    name = done.index(f"name {tmp_path / 'folder'}")
    assert sorted(path.split("/")[-1] for path in done[:name]) == ["folder", "weights"]
    assert done[name + 1 :] == [f"sync {tmp_path}"]


def test_a_folder_is_removed_whole(tmp_path, monkeypatch):
    """Killed in the middle of it, nothing of the folder is left under its name."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "weights").write_text("x")

    def killed(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("shutil.rmtree", killed)
        remove_folder(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
    (tmp_path / "other").mkdir()
    for _ in range(2):
        remove_folder(tmp_path / "other")
        assert not list(tmp_path.glob("*other*"))


def test_json_has_no_nan_and_a_broken_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", float("nan"))
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(ValueError, match="b.json is not valid JSON"):
        read_json(tmp_path / "b.json")
