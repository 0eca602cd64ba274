"""A manifest as a Hugging Face dataset: read back it is the same; published only where the licence allows it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import soundfile

from undertone.corpora import corpus_names, load_corpus
from undertone.corpora.manifest import Manifest
from undertone.corpora.prepare import prepare
from undertone.corpora.to_dataset import check_published, push_dataset, write_dataset
from undertone.tests.publish.loopback import TOKEN, LoopbackHub

ROWS = """file,speaker,gender,emotion,votes,arousal,text,split,age,corpus
0.wav,01,f,angry,angry:2;sad:1,0.9,Ja.,train,31,one
1.flac,02,m,sad,sad:3,0.1,Nein.,dev,40,one
2.wav,01,m,,,,Ja.,test,25,two
3.wav,03,m,angry,angry:2,0.7,Ja.,train,,two
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    folder = tmp_path_factory.mktemp("files")
    for number, name in enumerate(("0.wav", "1.flac", "2.wav", "3.wav")):
        sound = np.random.default_rng(number).uniform(-0.3, 0.3, (4000, 1 + number % 2))
        soundfile.write(folder / name, sound, 16000, subtype="PCM_24")
    (folder / "t.csv").write_text(ROWS)
    return folder / "t.csv", prepare(load_corpus(str(folder / "t.csv")), None).manifest


FIELDS = ("speaker", "gender", "emotion", "votes", "arousal", "text", "split", "corpus", "audio_hash")


@pytest.mark.parametrize("embed", [True, False])
def test_read_back_it_is_the_same(made: tuple[Path, Manifest], tmp_path: Path, embed: bool) -> None:
    table, manifest = made
    assert write_dataset(load_corpus(str(table)), manifest, tmp_path / "set", embed) == []
    found = prepare(load_corpus(f"hf:{tmp_path / 'set'}"), tmp_path / "audio" if embed else None).manifest
    order = [0, 3, 1, 2]  # a split after the other
    for name in FIELDS:
        values = manifest.column(name)
        assert found.column(name) == [values[row] for row in order], name
    assert found.labels("age") == [31, None, 40, 25] and found.labels("id") == ["0.wav", "3.wav", "1.flac", "2.wav"]
    kept = {hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in manifest.column("path")}
    assert {hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in found.column("path")} == kept
    card = (tmp_path / "set" / "README.md").read_text()
    assert "license: unknown" in card and "path: data/validation-*" in card and str(tmp_path) not in card


def test_a_segment_is_embedded_as_the_run_reads_it_and_refused_as_a_path(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).uniform(-0.3, 0.3, 16000), 16000)
    (tmp_path / "t.csv").write_text("file,emotion,start,end\na.wav,sad,0.25,0.5\na.wav,angry,0.5,\n")
    corpus = load_corpus(str(tmp_path / "t.csv"))
    manifest = prepare(corpus, None).manifest
    with pytest.raises(ValueError, match="2 of 2 utterances are segments of files, .* Embed the audio: --embed"):
        write_dataset(corpus, manifest, tmp_path / "set", embed=False)
    write_dataset(corpus, manifest, tmp_path / "set", embed=True)
    found = prepare(load_corpus(f"hf:{tmp_path / 'set'}"), tmp_path / "audio").manifest
    assert found.column("audio_hash") == manifest.column("audio_hash") and found.column("duration") == [0.25, 0.5]
    with pytest.raises(ValueError, match="set exists already and is not empty"):
        write_dataset(corpus, manifest, tmp_path / "set", embed=True)


def test_the_licence_decides(made: tuple[Path, Manifest]) -> None:
    table, manifest = made
    check_published(load_corpus(str(table)), manifest)
    iemocap = Manifest.from_rows("iemocap", [{"id": "a", "path": "a.wav"}])
    for corpus in (load_corpus("iemocap"), load_corpus(str(table))):  # under its own name, and in a user's table
        with pytest.raises(ValueError, match="iemocap may not be published by you: its licence is 'USC SAIL release"):
            check_published(corpus, iemocap)
    with pytest.raises(ValueError, match="its licence is 'see its page'"):
        check_published(load_corpus("hf:user/name"), manifest)
    for name in corpus_names():
        corpus = load_corpus(name)
        free = any(word in corpus.licence for word in ("CC0", "CC BY", "ODbL", "none needed"))
        assert bool(corpus.hub_licence) is free, name


def test_pushed_in_one_commit(made: tuple[Path, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    table, manifest = made
    write_dataset(load_corpus(str(table)), manifest, tmp_path / "set", embed=True)
    with pytest.raises(ValueError, match="Not a valid repository name: 'calls'"):
        push_dataset(tmp_path / "set", "calls")
    with pytest.raises(ValueError, match="Not signed in to the Hub"):
        push_dataset(tmp_path / "set", "tester/calls")
    with LoopbackHub() as hub:
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.endpoint)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        url = push_dataset(tmp_path / "set", "tester/calls")
        assert url.startswith(hub.endpoint) and len(hub.commits("tester/calls")) == 1
        assert hub.repos["tester/calls"].private
        names = {path.relative_to(tmp_path / "set").as_posix() for path in (tmp_path / "set").rglob("*.*")}
        assert set(hub.files("tester/calls")) - {".gitattributes"} == names
