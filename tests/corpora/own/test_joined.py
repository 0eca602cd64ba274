"""Several corpora as one: whose labels are kept, what is said of the others, and who is who."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from undertone.corpora import load_corpus
from undertone.corpora.folds import check_folds
from undertone.corpora.manifest import Manifest
from undertone.corpora.prepare import Prepared, prepare


def table(folder: Path, name: str, emotions: str, seed: int, columns: str = "emotion") -> str:
    """A table of speakers 1 to 3, each of whom says every emotion once."""
    (folder / name).mkdir(parents=True)
    lines = [f"file,speaker,{columns}"]
    for speaker in "123":
        for emotion in emotions.split():
            file = f"{speaker}{emotion}.wav"
            rng = np.random.default_rng([seed, int(speaker), len(lines)])
            soundfile.write(folder / name / file, rng.uniform(-0.3, 0.3, 2000), 16000)
            lines.append(f"{file},{speaker},{emotion}")
    path = folder / name / f"{name}.csv"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("joined")
    tables = [
        table(folder, "north", "angry calm happy", 0),
        table(folder, "south", "angry joy neutral", 1),
        table(folder, "west", "angry happy neutral", 0),  # the angry recordings of `north`
    ]
    return "+".join(tables)


def prepared(words: str, **options: Any) -> Prepared:
    return prepare(load_corpus(words, options), None)


def test_shared_labels_are_kept_and_the_others_are_named_and_counted(words: str) -> None:
    found = prepared(words, map="joy=happy")
    assert set(found.manifest.column("emotion")) == {"angry", "happy"} and len(found.manifest) == 18
    assert found.warnings[:4] == [
        "emotions mapped: joy as happy",
        "north: left out, not among the emotions angry, happy: calm 3.",
        "south: left out, not among the emotions angry, happy: neutral 3.",
        "west: left out, not among the emotions angry, happy: neutral 3.",
    ]


def test_all_labels_or_some_by_name(words: str) -> None:
    found = prepared(words, labels="all", map="joy=happy,calm=neutral")
    assert len(found.manifest) == 27 and not [line for line in found.warnings if "left out" in line]
    some = prepared(words, labels="angry, neutral")
    assert len(some.manifest) == 15
    assert "north: left out, not among the emotions angry, neutral: calm 3, happy 3." in some.warnings
    assert "north has no neutral." in some.warnings


def test_names_of_two_corpora_never_fall_together(words: str) -> None:
    manifest = prepared(words, labels="all").manifest
    assert len(set(manifest.ids)) == 27 and manifest.ids[0] == "north/1angry.wav"
    assert set(manifest.column("corpus")) == {"north", "south", "west"}
    assert len(manifest.speaker_index.by_speaker(manifest.ids)) == 9
    assert set(manifest.speaker_names.values()) == {f"{one}/{n}" for one in ("north", "south", "west") for n in "123"}


def test_the_same_audio_in_two_corpora_is_found(words: str) -> None:
    found = prepared(words, labels="angry,happy")
    assert "north/1angry.wav and west/1angry.wav hold the same audio." in found.warnings
    assert any("north/1angry.wav (speaker north/1) and west/1angry.wav (speaker west/1)" in w for w in found.warnings)
    corpus = load_corpus(words, {"labels": "angry,happy"})
    leaks = check_folds(corpus.folds(found.manifest, "across"), found.manifest)
    assert any("west/1angry.wav (test) and north/1angry.wav (train or dev) hold the same audio" in one for one in leaks)


def test_languages_are_a_column_that_a_corpus_may_give_itself() -> None:
    corpus = load_corpus("emodb+esd")
    assert corpus.language == "German, Mandarin and English"
    rows = {
        "emodb": [{"id": "1", "path": "x", "emotion": "angry"}, {"id": "2", "path": "x", "emotion": "sad"}],
        "esd": [
            {"id": "1", "path": "x", "emotion": name, "extra": {"language": "mandarin"}} for name in ("angry", "sad")
        ],
    }
    for name, part in corpus.parts.items():  # type: ignore[attr-defined]
        part.rows = lambda root, name=name: iter(rows[name])
    assert [row["extra"] for row in corpus.rows(Path("a+b"))] == [{"language": "german"}] * 2 + [
        {"language": "mandarin"}
    ] * 2
    assert "emodb: emotion counts are not those of the complete corpus" in " ".join(corpus.notes)


def test_each_has_its_folder_and_its_options(words: str, tmp_path: Path) -> None:
    first, second, _ = words.split("+")
    corpus = load_corpus(f"{first}+synthetic", {"synthetic.num_speakers": 2, "synthetic.per_emotion": 1})
    rows = list(corpus.rows(Path(f"+{tmp_path / 'made'}")))
    assert sum(row["id"].startswith("synthetic/") for row in rows) == 4  # angry and happy of two speakers
    with pytest.raises(
        ValueError, match=r"gives 1 folders for 2 corpora. Give one for each of north, synthetic, in this"
    ):
        list(corpus.rows(tmp_path))
    with pytest.raises(ValueError, match="emodb needs a folder in --root"):
        list(load_corpus(f"emodb+{second}").rows(Path("+")))
    with pytest.raises(ValueError, match=r"has no option 'nemo\.x'"):
        load_corpus("emodb+ravdess", {"nemo.x": 1})


def test_a_given_folder_confines_the_paths_of_a_table(words: str, tmp_path: Path) -> None:
    first, second, _ = words.split("+")
    outside = tmp_path / "out.csv"
    outside.write_text(f"file,emotion\n{Path(second).parent / '1angry.wav'},angry\n")
    with pytest.raises(ValueError, match="out: 1 paths lead out of --root"):
        list(load_corpus(f"{first}+{outside}").rows(Path(f"+{Path(first).parent}")))


def test_within_has_the_default_folds_of_each_corpus() -> None:
    corpus = load_corpus("emodb+ravdess")
    rows = [
        {"id": f"{name}/{speaker}-{take}", "path": "x", "corpus": name, "speaker": speaker, "emotion": "sad"}
        for name, speakers in {"emodb": ["03", "08", "09"], "ravdess": [f"{n:02d}" for n in range(1, 13)]}.items()
        for speaker in speakers
        for take in range(2)
    ]
    manifest = Manifest.from_rows("emodb+ravdess", rows)
    folds = corpus.folds(manifest, "within")
    names = ["emodb/03", "emodb/08", "emodb/09", "ravdess/01-04", "ravdess/05-08", "ravdess/09-12"]
    assert [fold.name for fold in folds] == names and check_folds(folds, manifest) == []
    for fold in folds:
        assert {name.split("/")[0] for ids in fold.parts.values() for name in ids} == {fold.name.split("/")[0]}
    assert sorted(name for fold in folds for name in fold.test) == sorted(manifest.ids)
    across = corpus.folds(manifest, "across")
    assert [len(fold.test) for fold in across] == [24, 6] and check_folds(across, manifest) == []


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        ("emodb+emodb", {}, "Two of the corpora are called 'emodb'"),
        ("emodb+ravdes", {}, "ravdess"),
        ("emodb+nemo", {"map": "calm"}, r"corpus.map needs LABEL=LABEL,... such as .*got 'calm'"),
    ],
)
def test_refusals(names: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_corpus(names, options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "share 1 emotions .*north: angry, calm, happy; south: angry, joy, neutral"),
        ({"labels": "angry,hapy"}, "corpus.labels=angry,hapy: no corpus has 'hapy'. Did you mean 'happy'"),
        ({"map": "bliss=joyful"}, "no corpus has an emotion that becomes 'joyful'"),
    ],
)
def test_labels_that_cannot_be_kept(words: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepared(words, **options)
