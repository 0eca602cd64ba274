"""ESD on a tree of the release's file names and tables."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from undertone.corpora import load_corpus
from undertone.corpora.esd import SPEAKERS
from undertone.corpora.folds import check_folds
from undertone.corpora.manifest import Manifest
from undertone.tests.corpora.trees import clip, facts, prepared

TABLES = {  # speaker: encoding, lines
    "0001": ("gb2312", "0001_000001\t打远一看。\t中立\n0001_000351\t打远一看。\t生气\n"),
    "0003": ("utf-16", "0003_000701\t打远一看。\t快乐\n"),
    "0008": ("utf-8-sig", "0008_001051\t打远一看。\t伤心\nno line of the table\n"),
    "0011": ("utf-8", "0011_000351\tThe nine the eggs, I keep.\tAngry\n0011_001401\tI did go.\tSurprise\n"),
    "0016": ("latin-1", "0016_000001\tA caf\xe9 – no.\tHappy\n".replace("–", "-")),
}
FILES = {
    "0001/中立/0001_000001.wav": ("0001", "female", "neutral", "mandarin", "打远一看。"),
    "0001/Angry/train/0001_000351.wav": ("0001", "female", "angry", "mandarin", "打远一看。"),
    "0003/Happy/0003_000701.wav": ("0003", "female", "happy", "mandarin", "打远一看。"),
    "0008/0008_001051.wav": ("0008", "male", "sad", "mandarin", "打远一看。"),  # by the table
    "0011/Angry/evaluation/0011_000351.wav": ("0011", "male", "angry", "english", "The nine the eggs, I keep."),
    "0011/Surprise/test/0011_001401.wav": ("0011", "male", "surprised", "english", "I did go."),
    "0016/Neutral/0016_000001.wav": ("0016", "female", "neutral", "english", "A caf\xe9 - no."),  # the table says Happy
    "0020/Sad/0020_001100.wav": ("0020", "male", "sad", "english", None),
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for file in FILES:
        clip(tmp_path / file)
    for speaker, (encoding, text) in TABLES.items():
        (tmp_path / speaker / f"{speaker}.txt").write_bytes(text.encode(encoding))
    return tmp_path


def test_folders_tables_and_their_encodings(tree: Path) -> None:
    found = prepared("esd", tree)
    expected = {Path(file).stem: row for file, row in FILES.items()}
    assert facts(found, "speaker", "gender", "emotion", "language", "text") == expected
    assert "1 utterances have another emotion in their table; the folder's is taken." in found.warnings
    assert any("0001 2 (not 1750)" in line for line in found.warnings)


@pytest.mark.parametrize("language", ["english", "mandarin"])
def test_one_language(language: str, tree: Path) -> None:
    found = prepared("esd", tree, language=language)
    assert {one.extra["language"] for one in found.manifest} == {language} and len(found.manifest) == 4
    assert sum(load_corpus("esd", {"language": language}).expected["speaker"].values()) == 17_500


def test_an_utterance_without_an_emotion_is_refused(tree: Path) -> None:
    clip(tree / "0020" / "0020_001101.wav")
    with pytest.raises(ValueError, match=r"0020_001101\.wav stands in no folder of an emotion .* nor does 0020\.txt"):
        prepared("esd", tree)


def manifest_of(*languages: str) -> Manifest:
    rows = [
        {"id": f"{speaker}_{take}", "path": "x", "speaker": speaker, "gender": gender}
        for language in languages
        for gender, speakers in SPEAKERS[language].items()
        for speaker in speakers
        for take in range(2)
    ]
    return Manifest.from_rows("esd", rows)


@pytest.mark.parametrize(("languages", "each"), [(("english", "mandarin"), 2), (("english",), 1)])
def test_five_folds_of_a_woman_and_a_man_of_each_language(languages: tuple[str, ...], each: int) -> None:
    corpus, manifest = load_corpus("esd"), manifest_of(*languages)
    folds = corpus.folds(manifest)
    assert [fold.name for fold in folds] == ["pair1", "pair2", "pair3", "pair4", "pair5"]
    assert check_folds(folds, manifest) == [] and all(fold.speaker_independent for fold in folds)
    for fold in folds:
        speakers = {(one.speaker, one.gender) for one in manifest.select(fold.test)}
        assert Counter(gender for _, gender in speakers) == {"female": each, "male": each}
    assert folds == corpus.folds(manifest, "pairs", seed=3)
    assert corpus.protocol_used(manifest) == "pairs" and len(corpus.folds(manifest, num_folds=2)) == 2


def test_the_gender_lists_are_those_of_the_release() -> None:
    women = {int(speaker) for genders in SPEAKERS.values() for speaker in genders["female"]}
    men = {int(speaker) for genders in SPEAKERS.values() for speaker in genders["male"]}
    assert women == {1, 2, 3, 7, 9, 15, 16, 17, 18, 19} and men == {4, 5, 6, 8, 10, 11, 12, 13, 14, 20}
