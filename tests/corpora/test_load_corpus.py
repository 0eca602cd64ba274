"""Finding a corpus by name, path or class; the modules stay light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from undertone.corpora import corpus_names, load_corpus
from undertone.corpora.emodb import EmoDB
from undertone.corpora.own.folder import Folder
from undertone.corpora.own.table import Table

MINE = """
from pathlib import Path
from undertone.corpora.corpus import Corpus

class Mine(Corpus):
    name, licence, url, citation = "mine", "own", "none", "none"

    def rows(self, root: Path):
        yield {"id": "a", "path": root / "a.wav"}
"""


def test_by_name_path_and_class(tmp_path: Path) -> None:
    assert isinstance(load_corpus("emodb"), EmoDB)
    assert isinstance(load_corpus("somewhere/calls.CSV"), Table)
    assert isinstance(load_corpus("undertone.corpora.emodb:EmoDB"), EmoDB)
    (tmp_path / "my_corpus.py").write_text(MINE)
    assert load_corpus(str(tmp_path / "my_corpus.py")).name == "mine"


def test_unknown_names_the_nearest() -> None:
    with pytest.raises(
        ValueError, match=r"Unknown corpus 'emo-db'. Did you mean 'emodb'\? Known: ased, cafe, crema_d, "
    ):
        load_corpus("emo-db")
    with pytest.raises(ValueError, match=r"'table' is not a corpus by itself. Give FILE\.csv / "):
        load_corpus("table")


@pytest.mark.parametrize("place", ["./nowhere", "nowhere/", "a/b", ".", "..", "~/nowhere", "/no/where"])
def test_a_path_that_is_not_there_is_no_unknown_corpus(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there is looked into: an empty folder has no class, a file of another kind is no corpus."""
    monkeypatch.chdir(tmp_path)
    if place in (".", ".."):
        assert isinstance(load_corpus(place), Folder)
        return
    with pytest.raises(ValueError, match=r"nowhere|a/b|where") as refused:
        load_corpus(place)
    assert ": no such file or folder. Correct the path, or give the name of a corpus" in str(refused.value)
    assert "Known" not in str(refused.value)


def test_the_users_home_is_read_and_other_files_are_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "speech").mkdir()
    (tmp_path / "speech" / "notes.txt").touch()
    assert isinstance(load_corpus("~/speech"), Folder)
    with pytest.raises(ValueError, match=r"Unknown corpus '.*/notes.txt'"):
        load_corpus("~/speech/notes.txt")


@pytest.mark.parametrize("name", corpus_names())
def test_every_corpus_keeps_the_contract(name: str, tmp_path: Path) -> None:
    corpus = load_corpus(name)
    assert corpus.name == name
    assert all(isinstance(text, str) and text for text in (corpus.licence, corpus.url, corpus.citation))
    corpus.check_protocol(corpus.default_protocol)
    assert all(count >= 0 for counts in corpus.expected.values() for count in counts.values())


def test_importing_corpora_is_cheap() -> None:
    code = (
        "import sys; from undertone.corpora import load_corpus; load_corpus('emodb');"
        "import undertone.corpora.prepare;"
        "print([name for name in ('torch', 'datasets', 'sklearn', 'pyarrow', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
