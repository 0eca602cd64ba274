"""nEMO on a tree of its real file names and, where it is at hand, on the real one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from undertone.corpora import load_corpus
from undertone.corpora.folds import check_folds
from undertone.tests.corpora.trees import clip, facts, prepared

DATA = Path(__file__).parents[3] / "shared" / "data" / "nemo"
TABLE = """file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage
WR0_surprised_64.wav\tsurprised\t"Ucho" wykrywa.\tucho wykrywa\t        WR0\tmale\t23
EB0_neutral_13.wav\tneutral\tInteresuje mnie.\tinteresuje mnie\t        EB0\tfemale\t27
EB0_fear_1.wav\tfear\tInteresuje mnie.\tinteresuje mnie\t        EB0\tfemale\t27
KN0_happiness_2.wav\thappiness\tCz\xf3\u0142no.\tcz\xf3\u0142no\t        KN0\tmale\t24
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "data.tsv").write_text(TABLE, "utf-8")
    for name in ("WR0_surprised_64.wav", "EB0_neutral_13.ogg", "EB0_fear_1.flac", "KN0_happiness_2.wav"):
        clip(tmp_path / "samples" / name)
    return tmp_path


@pytest.mark.parametrize("inside", ["", "samples"])
def test_the_blanks_around_speakers_are_taken_off(inside: str, tree: Path) -> None:
    found = prepared("nemo", tree / inside)
    assert facts(found, "speaker", "gender", "emotion", "text", "age") == {
        "WR0_surprised_64": ("WR0", "male", "surprised", '"Ucho" wykrywa.', "23"),
        "EB0_neutral_13": ("EB0", "female", "neutral", "Interesuje mnie.", "27"),
        "EB0_fear_1": ("EB0", "female", "fearful", "Interesuje mnie.", "27"),
        "KN0_happiness_2": ("KN0", "male", "happy", "Cz\xf3\u0142no.", "24"),
    }
    assert [fold.name for fold in load_corpus("nemo").folds(found.manifest)] == ["EB0", "KN0", "WR0"]


def test_missing_files_rows_and_table(tree: Path) -> None:
    (tree / "samples" / "EB0_fear_1.flac").rename(tree / "samples" / "EB0_fear_2.flac")
    found = prepared("nemo", tree)
    assert [Path(path).name for path, _ in found.broken] == ["EB0_fear_1.wav"]
    assert "1 files such as EB0_fear_2 are not in data.tsv and are left out." in found.warnings
    (tree / "data.tsv").write_text(TABLE.replace("\tfear\t", "\tcalm\t"), "utf-8")
    with pytest.raises(ValueError, match=r"data\.tsv, line 4: expected an emotion of .*calm"):
        prepared("nemo", tree)
    (tree / "data.tsv").unlink()
    with pytest.raises(ValueError, match=r"nemo: no data\.tsv in "):
        prepared("nemo", tree)


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason="nEMO is not in ../shared/data")
def test_the_real_nemo() -> None:
    rows = list(load_corpus("nemo").rows(DATA))
    assert len(rows) == 4481 and all(row["path"].is_file() for row in rows)
    assert Counter(row["emotion"] for row in rows) == load_corpus("nemo").expected["emotion"]
    genders = {row["speaker"]: row["gender"] for row in rows}
    assert len(genders) == 9 and Counter(genders.values()) == {"female": 4, "male": 5}
    assert all(row["id"].startswith(f"{row['speaker']}_") for row in rows)
    assert len({row["text"] for row in rows}) == 90


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason="nEMO is not in ../shared/data")
def test_the_real_audio_of_nemo() -> None:
    found = prepared("nemo", DATA)
    assert len(found.manifest) == 4481 and not found.broken and set(found.formats) == {(24000, 1)}
    folds = load_corpus("nemo").folds(found.manifest)
    assert len(folds) == 9 and check_folds(folds, found.manifest) == []
    assert not [line for line in found.warnings if "counts are not" in line]
