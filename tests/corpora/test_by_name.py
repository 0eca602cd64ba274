"""Corpora whose labels stand in the names of their files, on trees of the real names."""

from __future__ import annotations

from pathlib import Path

import pytest

from undertone.corpora import load_corpus
from undertone.corpora.folds import check_folds
from undertone.tests.corpora.trees import clip, facts, prepared

F, M = "female", "male"
TREES = {  # corpus: {file: (id, speaker, gender, emotion, text)}, names of folds
    "savee": (
        {
            "AudioData/DC/a01.wav": ("DC_a01", "DC", M, "angry", None),
            "AudioData/DC/sa01.wav": ("DC_sa01", "DC", M, "sad", None),
            "AudioData/DC/su01.wav": ("DC_su01", "DC", M, "surprised", None),
            "AudioData/JE/a01.wav": ("JE_a01", "JE", M, "angry", None),
            "AudioData/JE/n30.wav": ("JE_n30", "JE", M, "neutral", None),
            "ALL/KL_d02.wav": ("KL_d02", "KL", M, "disgusted", None),
            "ALL/KL_sa02.flac": ("KL_sa02", "KL", M, "sad", None),
        },
        ["DC", "JE", "KL"],
    ),
    "tess": (
        {
            "OAF_angry/OAF_back_angry.wav": ("OAF_back_angry", "OAF", F, "angry", "back"),
            "OAF_neutral/OA_bite_neutral.wav": ("OA_bite_neutral", "OAF", F, "neutral", "bite"),
            "YAF_pleasant_surprised/YAF_back_ps.wav": ("YAF_back_ps", "YAF", F, "surprised", "back"),
            "YAF_fear/YAF_neat_fear.wav": ("YAF_neat_fear", "YAF", F, "fearful", "neat"),
        },
        ["OAF", "YAF"],
    ),
    "emovo": (
        {
            "f1/dis-f1-b1.wav": ("dis-f1-b1", "f1", F, "disgusted", "b1"),
            "f1/gio-f1-d2.wav": ("gio-f1-d2", "f1", F, "happy", "d2"),
            "f2/tri-f2-n5.wav": ("tri-f2-n5", "f2", F, "sad", "n5"),
            "m3/rab-m3-l1.wav": ("rab-m3-l1", "m3", M, "angry", "l1"),
            "m3/pau-m3-l1.wav": ("pau-m3-l1", "m3", M, "fearful", "l1"),
            "m3/sor-m3-l1.wav": ("sor-m3-l1", "m3", M, "surprised", "l1"),
        },
        ["f1", "f2", "m3"],
    ),
    "urdu": (
        {
            "Angry/SM1_F10_A010.wav": ("SM1_F10_A010", "SM1", M, "angry", None),
            "Sad/SM10_F7_S071.wav": ("SM10_F7_S071", "SM10", M, "sad", None),
            "Happy/SF1_F1_H01.wav": ("SF1_F1_H01", "SF1", F, "happy", None),
            "Neutral/SF1_F1_N02.wav": ("SF1_F1_N02", "SF1", F, "neutral", None),
        },
        ["group1", "group2", "group3"],
    ),
    "enterface05": (
        {
            "subject 1/anger/sentence 1/s1_an_1.wav": ("s1_angry_1", "1", None, "angry", "angry 1"),
            "subject 3/fear/sentence 2/s_3_fe_2.wav": ("s3_fearful_2", "3", None, "fearful", "fearful 2"),
            "subject 11/anger/sentence 1/s12_an_1.wav": ("s11_angry_1", "11", None, "angry", "angry 1"),
            "subject 12/anger/sentence 1/s12_an_1.wav": ("s12_angry_1", "12", None, "angry", "angry 1"),
            "subject 16/fear/sentence 3/s16_fe_3avi.wav": ("s16_fearful_3", "16", None, "fearful", "fearful 3"),
        },
        ["group1", "group2", "group3", "group4", "group5"],
    ),
    "shemo": (
        {
            "female/F01A01.wav": ("F01A01", "F01", F, "angry", None),
            "female/F03F01.wav": ("F03F01", "F03", F, "fearful", None),
            "male/M01W02.wav": ("M01W02", "M01", M, "surprised", None),
            "male/M01S12.wav": ("M01S12", "M01", M, "sad", None),
        },
        ["group1", "group2", "group3"],
    ),
    "cafe": (
        {
            "Colère/Faible/01-C-1-1.wav": ("01-C-1-1", "01", M, "angry", "1"),
            "Surprise/02-S-2-3.wav": ("02-S-2-3", "02", F, "surprised", "3"),
            "Tristesse/12-T-1-6.aiff": ("12-T-1-6", "12", F, "sad", "6"),
            "Peur/12-P-1-6.aiff": ("12-P-1-6", "12", F, "fearful", "6"),
        },
        ["01", "02", "12"],
    ),
    "subesco": (
        {
            "F_01_OISHI_S_1_ANGRY_1.wav": ("F_01_OISHI_S_1_ANGRY_1", "F_01", F, "angry", "1"),
            "M_01_RAJU_S_10_SURPRISE_5.wav": ("M_01_RAJU_S_10_SURPRISE_5", "M_01", M, "surprised", "10"),
            "M_02_SHAMIM_S_2_DISGUST_3.wav": ("M_02_SHAMIM_S_2_DISGUST_3", "M_02", M, "disgusted", "2"),
        },
        ["group1", "group2", "group3"],
    ),
    "jl_corpus": (
        {
            "female1_angry_10a_1.wav": ("female1_angry_10a_1", "female1", F, "angry", "10a"),
            "female2_excited_2b_2.wav": ("female2_excited_2b_2", "female2", F, "excited", "2b"),
            "male2_neutral_15b_1.wav": ("male2_neutral_15b_1", "male2", M, "neutral", "15b"),
        },
        ["female1", "female2", "male2"],
    ),
    "ased": (
        {
            "01Neutral/n1-04-02-01-31.wav": ("n1-04-02-01-31", "31", F, "neutral", "neutral 04"),
            "03Happy/h3-05-01-02-61.wav": ("h3-05-01-02-61", "61", M, "happy", "happy 05"),
            "04Sad/S4-04-02-01-29.wav": ("S4-04-02-01-29", "29", F, "sad", "sad 04"),
        },
        ["group1", "group2", "group3"],
    ),
}  # fmt: skip


def build(name: str, root: Path) -> dict[str, tuple[str | None, ...]]:
    files, _ = TREES[name]
    for file in files:
        clip(root / file)
    return {row[0]: row[1:] for row in files.values()}  # type: ignore[misc]


@pytest.mark.parametrize("name", TREES)
def test_labels_come_from_the_names(name: str, tmp_path: Path) -> None:
    expected = build(name, tmp_path)
    clip(tmp_path / "notes" / "take one.wav")
    found = prepared(name, tmp_path)
    assert facts(found, "speaker", "gender", "emotion", "text") == expected and not found.broken
    assert any("1 audio file with another name" in line and "take one.wav" in line for line in found.warnings)
    corpus = load_corpus(name)
    assert any("counts are not those of the complete corpus" in line for line in found.warnings) == bool(
        corpus.expected
    )
    folds = corpus.folds(found.manifest)
    assert [fold.name for fold in folds] == TREES[name][1]
    assert check_folds(folds, found.manifest) == [] and all(fold.speaker_independent for fold in folds)


@pytest.mark.parametrize("name", ["savee", "tess", "enterface05"])
def test_a_copy_inside_the_copy_is_refused(name: str, tmp_path: Path) -> None:
    build(name, tmp_path)
    build(name, tmp_path / "copy")
    with pytest.raises(ValueError, match="is there twice: .*Give --root a folder with one copy"):
        prepared(name, tmp_path)


def test_tess_aiff_under_wav_is_read(tmp_path: Path) -> None:
    for name in ("YAF_germ_angry", "OAF_germ_angry"):
        clip(tmp_path / f"{name}.wav", format="AIFF", subtype="PCM_16")
    assert len(prepared("tess", tmp_path).manifest) == 2


def test_tess_dev_shares_the_training_speaker(tmp_path: Path) -> None:
    build("tess", tmp_path)
    folds = load_corpus("tess").folds(prepared("tess", tmp_path).manifest)
    assert all(fold.dev_shares_speakers for fold in folds)


def test_videos_say_how_to_get_their_audio(tmp_path: Path) -> None:
    video = tmp_path / "subject 1" / "anger" / "sentence 1" / "s1_an_1.avi"
    video.parent.mkdir(parents=True)
    video.write_bytes(b"video")
    with pytest.raises(
        ValueError, match=r"enterface05: 1 videos such as .* no audio .*ffmpeg -i s1_an_1\.avi .*s1_an_1\.wav"
    ):
        prepared("enterface05", tmp_path)


def test_jl_corpus_secondary_emotions_are_an_option(tmp_path: Path) -> None:
    build("jl_corpus", tmp_path)
    clip(tmp_path / "male1_concerned_1a_1.wav")
    assert len(prepared("jl_corpus", tmp_path).manifest) == 3
    found = prepared("jl_corpus", tmp_path, labels="all")
    assert found.manifest.column("emotion").count("concerned") == 1 and len(found.manifest) == 4
    with pytest.raises(ValueError, match="jl_corpus has no labels=secondary"):
        load_corpus("jl_corpus", {"labels": "secondary"})
