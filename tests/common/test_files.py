import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from undertone.common.files import (
    LONGEST_NAME,
    STALE_SECONDS,
    atomic_path,
    draft_folder,
    read_json,
    remove_drafts,
    remove_folder,
    safe_name,
    write_json,
)


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


def test_any_text_has_a_name_of_its_own_that_stays_where_it_is(tmp_path):
    long = "Königin " * 60
    texts = ["", ".", "..", "...", "../up", "a/b", "/etc", "a\0b", "\n", "a+b", "a%2Bb", ".x.12345678.tmp", ".hidden"]
    texts += [long, f"{long}!", "é", "e\u0301", "\udc80", "x" * LONGEST_NAME, "x" * (LONGEST_NAME + 1), "a" * 10_000]
    names = [safe_name(text) for text in texts]
    assert len(set(names)) == len(texts)
    assert len({safe_name(name) for name in names}) == len(texts), "what looks like such a name is no other text's"
    for name in names:
        folder = tmp_path / name
        folder.mkdir()
        assert folder.resolve().parent == tmp_path.resolve() and len(os.fsencode(name)) <= LONGEST_NAME
        (tmp_path / f"{name}.lock").touch()
    remove_drafts(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2 * len(texts)


def test_plain_names_are_as_they_were_in_earlier_versions():
    assert [safe_name(text) for text in ("F1", "speaker 08", "a/b", "ä", ".hidden")] == [
        "F1",
        "speaker 08",
        "a%2Fb",
        "%C3%A4",
        ".hidden",
    ]
    assert safe_name("head.C=0.01,seed=0", safe="=,") == "head.C=0.01,seed=0"


WRITER = """
import sys, time
from pathlib import Path
from undertone.common.files import atomic_path
with atomic_path(Path(sys.argv[1])) as draft:
    draft.write_text("half")
    print(draft, flush=True)
    time.sleep(600)
"""


def test_only_drafts_of_dead_processes_are_removed(tmp_path):
    killed, alive = (
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "deep" / name)], stdout=subprocess.PIPE, text=True
        )
        for name in ("killed", "alive")
    )
    try:
        drafts = [Path(process.stdout.readline().strip()) for process in (killed, alive)]
        remove_drafts(tmp_path)
        assert all(draft.read_text() == "half" for draft in drafts)
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        remove_drafts(tmp_path)
        assert not drafts[0].parent.exists() and drafts[1].read_text() == "half"
    finally:
        for process in (killed, alive):
            process.kill()
            process.wait()


def test_drafts_without_a_lock_go_by_their_age_and_only_if_they_are_ours(tmp_path):
    old, new, other, link = (tmp_path / f".{name}.abcd1234.tmp" for name in ("old", "new", "other", "link"))
    for draft, content in ((old, "old"), (new, "new"), (other, "thesis.txt")):
        draft.mkdir()
        (draft / content).write_text("x")
    for draft in (old, other):
        os.utime(draft, (time.time() - 2 * STALE_SECONDS,) * 2)
    link.write_text("a file")
    remove_drafts(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([new, other, link])


def test_a_folder_called_old_is_replaced_too(tmp_path):
    for number in (1, 2):
        with atomic_path(tmp_path / "old") as draft:
            draft.mkdir()
            (draft / f"{number}.txt").write_text("x")
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["2.txt"]


def test_a_draft_folder_is_gone_after_an_error(tmp_path):
    with pytest.raises(RuntimeError), draft_folder(tmp_path / "a") as folder:
        (folder / "a").write_text("x")
        raise RuntimeError
    assert not list(tmp_path.iterdir())
