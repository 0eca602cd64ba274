"""Each corpus' recipe end to end, on a made-up tree of the corpus' real file names."""

from __future__ import annotations

import importlib
import json
import re
import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from undertone.corpora import corpus_names, load_corpus

REPOSITORY = Path(__file__).resolve().parents[2]
TINY = ("max_epochs=2", "head.hidden_size=8", "batch_size=16", "device=cpu")


def tone(path: Path, number: int) -> None:
    """Noise under a tone that tells the class by its pitch."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(6400) / 16000
    noise = np.random.default_rng(list(str(path).encode())).normal(0, 0.02, len(time))
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * 200 * 2**number * time) + noise, 16000)


def emodb(root: Path) -> None:
    for speaker in ("03", "08", "10", "09"):
        for number, emotion in enumerate("WTN"):
            for take in "ab":
                tone(root / f"{speaker}a01{emotion}{take}.wav", number)


def ravdess(root: Path) -> None:
    for actor in range(1, 13):
        for number, emotion in enumerate(("01", "03", "05")):
            tone(root / f"Actor_{actor:02d}" / f"03-01-{emotion}-01-01-01-{actor:02d}.flac", number)


def iemocap(root: Path) -> None:
    for session in "123":
        dialog, lines = f"Ses0{session}F_impro01", []
        for number, code in enumerate(("ang", "exc", "neu", "sad")):
            for letter in "FM":
                turn = f"{dialog}_{letter}{number:03d}"
                tone(root / f"Session{session}" / "sentences" / "wav" / dialog / f"{turn}.wav", number)
                lines.append(f"[1.0 - 2.0]\t{turn}\t{code}\t[{1 + number}.0000, 3.0000, 3.0000]")
        labels = root / f"Session{session}" / "dialog" / "EmoEvaluation" / f"{dialog}.txt"
        labels.parent.mkdir(parents=True)
        labels.write_text("\n".join(lines))


def crema_d(root: Path) -> None:
    for actor in range(1001, 1011):
        for number, emotion in enumerate(("ANG", "HAP", "SAD")):
            tone(root / "AudioWAV" / f"{actor}_DFA_{emotion}_XX.wav", number)


NAMED = {  # corpus: (name of a file, its speakers, codes of two emotions); others need tables and are made below
    "savee": ("AudioData/{}/{}01.wav", ("DC", "JE", "JK"), ("a", "sa")),
    "tess": ("{}_back_{}.wav", ("OAF", "YAF"), ("angry", "ps")),
    "emovo": ("{0}/{1}-{0}-b1.wav", ("f1", "m1", "m2"), ("dis", "tri")),
    "esd": ("{0}/{1}/{0}_00000{2}.wav", ("0001", "0004", "0002", "0011", "0012", "0016"), ("Angry", "Sad")),
    "emotale": ("wav/DK_{}_{}_1.wav", ("001", "002", "003"), ("A", "S")),
    "urdu": ("{}_F10_{}010.wav", ("SM1", "SF2", "SM3"), ("A", "S")),
    "enterface05": ("subject {}/{}/sentence 1/clip.wav", ("1", "2", "3"), ("anger", "fear")),
    "shemo": ("{}{}01.wav", ("F01", "M01", "F02"), ("A", "W")),
    "cafe": ("{}-{}-1-1.wav", ("01", "02", "03"), ("C", "T")),
    "subesco": ("{}_NAME_S_1_{}_1.wav", ("F_01", "M_01", "F_02"), ("ANGRY", "SAD")),
    "jl_corpus": ("{}_{}_1a_1.wav", ("female1", "male1", "male2"), ("angry", "sad")),
    "ased": ("{1}-01-01-{0}.wav", ("01-03", "02-04", "01-05"), ("n1", "s4")),
    "msp_podcast": ("Audios/MSP-PODCAST_{}_{}.wav", ("0001", "0002", "0003", "0004"), ("0001", "0002")),
    "meld": ("{}/dia0_utt{}.wav", ("train_splits", "dev_splits_complete", "output_repeated_splits_test"), ("0", "1")),
    "msp_improv": ("session{0}/MSP-IMPROV-S01{1}-F0{0}-P-FM01.wav", ("1", "2", "3"), ("A", "S")),
    "nemo": ("samples/{}_{}_1.wav", ("EB0", "WR0", "KN0"), ("anger", "sadness")),
    "recola": ("RECOLA-Audio-recordings/P{}{}.wav", ("1", "2", "3"), ("6",)),
}


def named(name: str, root: Path) -> None:
    """Each speaker says each of two emotions, and the tables say so."""
    pattern, speakers, codes = NAMED[name]
    for speaker in speakers:
        for number, code in enumerate(codes):
            tone(root / pattern.format(speaker, code, number), number)
    if name in TABLES:
        for file, lines in TABLES[name](speakers).items():
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_text("\n".join(lines))


def podcast_tables(speakers: Sequence[str]) -> dict[str, list[str]]:
    parts = dict(zip(speakers, ("Train", "Train", "Development", "Test1"), strict=True))
    lines = ["FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set"]
    for speaker, part in parts.items():
        gender = "Male" if speaker == "0002" else "Female"
        lines += [f"MSP-PODCAST_{speaker}_0001.wav,A,4,4,4,{speaker},{gender},{part}"]
        lines += [f"MSP-PODCAST_{speaker}_0002.wav,S,4,4,4,{speaker},{gender},{part}"]
    return {"Labels/labels_consensus.csv": lines}


def meld_tables(speakers: Sequence[str]) -> dict[str, list[str]]:
    head = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode"
    lines = [head, "1,Oh,Joey,joy,positive,0,0,1,1", "2,No,Ross,anger,negative,0,1,1,1"]
    return {f"{part}_sent_emo.csv": lines for part in ("train", "dev", "test")}


def improv_tables(speakers: Sequence[str]) -> dict[str, list[str]]:
    turns = [
        f"UTD-IMPROV-S01{code}-F0{one}-P-FM01.avi; {code}; A:2; V:3; D:4 ; N:3;" for one in speakers for code in "AS"
    ]
    return {"Evalution.txt": turns}


def nemo_tables(speakers: Sequence[str]) -> dict[str, list[str]]:
    head = "file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage"
    genders = dict(zip(speakers, ("female", "male", "male"), strict=True))
    rows = [
        f"{one}_{emotion}_1.wav\t{emotion}\tUcho.\tucho\t  {one}\t{genders[one]}\t23"
        for one in speakers
        for emotion in ("anger", "sadness")
    ]
    return {"data.tsv": [head, *rows]}


def recola_tables(speakers: Sequence[str]) -> dict[str, list[str]]:
    folder = "RECOLA-Annotation/emotional_behaviour"
    return {
        f"{folder}/{axis}/P{one}6.csv": ["time;FM1;FF1", *(f"{0.04 * k:.2f};{k / 20};{k / 25}" for k in range(10))]
        for axis in ("arousal", "valence")
        for one in speakers
    }


TABLES = {
    "msp_podcast": podcast_tables,
    "meld": meld_tables,
    "msp_improv": improv_tables,
    "nemo": nemo_tables,
    "recola": recola_tables,
}


def run(name: str, make: Callable[[Path], None], folder: Path, *words: str) -> dict[str, Any]:
    if not (folder / "data").exists():
        make(folder / "data")
    out = folder / f"run{len(words)}"
    with pytest.MonkeyPatch.context() as patch:
        given = ["--root", str(folder / "data"), "--out", str(out), *TINY, f"store={folder / 'store'}", *words]
        patch.setattr(sys, "argv", [f"{name}.py", *given])
        runpy.run_module(f"undertone.recipes.{name}", run_name="__main__")
    assert (out / "report.html").is_file() and (out / "model" / "model.safetensors").is_file()
    return dict(json.loads((out / "results.json").read_text()))


@pytest.mark.parametrize(
    ("make", "protocol", "folds"),
    [
        pytest.param(emodb, "speaker", ["03", "08", "09", "10"], marks=pytest.mark.slow),
        (ravdess, "actors", ["01-04", "05-08", "09-12"]),
        pytest.param(iemocap, "session", ["1", "2", "3"], marks=pytest.mark.slow),
        pytest.param(crema_d, "groups", ["group1", "group2", "group3", "group4", "group5"], marks=pytest.mark.slow),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_recipe(make: Callable[[Path], None], protocol: str, folds: list[str], tmp_path: Path, capsys: Any) -> None:
    name = make.__name__
    results = run(name, make, tmp_path)
    assert results["corpus"] == name and results["protocol"] == protocol and results["speaker_independent"]
    assert [fold["name"] for fold in results["folds"]] == folds
    assert [task["name"] for task in results["tasks"]] == ["emotion", "gender"]
    said = capsys.readouterr().out
    assert said.startswith(f"UAR {results['pooled']['emotion']['uar']:.3f}  WA ") and "report.html" in said


def test_options_reach_the_corpus_and_the_results_say_so(tmp_path: Path) -> None:
    results = run("iemocap", iemocap, tmp_path, "corpus.labels=all", "corpus.part=improvised", "protocol=superb")
    assert results["corpus_variant"] == "all emotions; improvised turns" and results["dev_shares_speakers"]
    assert results["tasks"][0]["labels"] == ["angry", "excited", "neutral", "sad"]
    report = (tmp_path / "run3" / "report.html").read_text()
    assert "all emotions; improvised turns · fbank + attention" in report and "dev shares speakers with train" in report


@pytest.mark.slow
def test_the_dimensions(tmp_path: Path, capsys: Any) -> None:
    results = run("iemocap", iemocap, tmp_path, "tasks=valence")
    assert results["tasks"][0]["kind"] == "regression" and capsys.readouterr().out.startswith("CCC ")


FIRST = ("meld", "recola")  # with tables, and over time; the others are slow


@pytest.mark.parametrize(
    "name", [name if name in FIRST else pytest.param(name, marks=pytest.mark.slow) for name in NAMED]
)
def test_every_other_recipe(name: str, tmp_path: Path, capsys: Any) -> None:
    named(name, tmp_path / "data")
    words = [f"corpus.cache={tmp_path / 'series'}"] if name == "recola" else []
    results = run(name, lambda root: None, tmp_path, *words, "max_epochs=1")
    corpus = load_corpus(name)
    assert results["corpus"] == name and results["protocol"] == corpus.default_protocol
    assert results["speaker_independent"] is (name != "meld")
    learned = {"recola": ["arousal", "valence"]}.get(name, ["emotion"])
    assert [task["name"] for task in results["tasks"]][: len(learned)] == learned
    assert capsys.readouterr().out.startswith("CCC " if name == "recola" else "UAR ")


def test_every_corpus_has_a_recipe() -> None:
    recipes = {path.stem for path in (REPOSITORY / "recipes").glob("*.py")}
    assert set(corpus_names()) <= recipes
    assert {*NAMED, "emodb", "ravdess", "iemocap", "crema_d", "synthetic"} == set(corpus_names())


# Whose folds in EmoBox, the source of published figures, share speakers between train and test.
SHARED_BY_EMOBOX = {"ased", "crema_d", "emodb", "enterface05", "meld", "shemo", "tess", "urdu"}


@pytest.mark.parametrize("name", [name for name in corpus_names() if name != "synthetic"])
def test_what_a_recipe_quotes(name: str) -> None:
    """It says what is published and what is ours; each score of ours is a row of the log, UAR and then WA."""
    text = str(importlib.import_module(f"undertone.recipes.{name}").__doc__)
    assert f"python recipes/{name}.py --root" in text
    published = re.search(r"Published.*", text, re.DOTALL)
    assert published and re.search(r"\(.*(19|20)\d\d", published[0]), "a figure has a source with its year"
    assert "SPEAKER-DEPENDENT" in published[0] or name not in SHARED_BY_EMOBOX
    ours = text[re.search("Ours|ours", text).start() :]  # type: ignore[union-attr]
    log = (REPOSITORY / "docs" / "results.md").read_text()
    scores = [] if "ours was not run" in ours.casefold() else re.findall(r"(\d\d\.\d) / (\d\d\.\d)", ours)
    assert scores or "not run" in ours
    assert all(f"| {uar} | {wa} |" in log for uar, wa in scores)


def test_the_flags_of_a_recipe(tmp_path: Path) -> None:
    emodb(tmp_path / "data")
    assert run("emodb", emodb, tmp_path, "--head", "linear")["head"] == "linear"
    with pytest.raises(ValueError, match="functionel.*Did you mean 'functionals'"):
        run("emodb", emodb, tmp_path, "--system", "functionel")
