"""Folds: disjoint whatever the speakers, every utterance tested once, and a leak refused by name."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from undertone.corpora import folds as module
from undertone.corpora.folds import Fold, LeakError, check_folds, inner_folds, make_folds, mark_leaks, protocol_used
from undertone.corpora.manifest import Manifest

EMOTIONS = ("angry", "happy", "sad")


def make(speakers: list[Any], per_speaker: int = 6, **columns: list[Any]) -> Manifest:
    """`per_speaker` utterances of each speaker; the columns are given speaker by speaker."""
    rows = [
        {"id": f"u{number}_{take}", "path": "x.wav", "speaker": speaker, "emotion": EMOTIONS[take % 3]}
        | {name: values[number] for name, values in columns.items()}
        for number, speaker in enumerate(speakers)
        for take in range(per_speaker)
    ]
    return Manifest.from_rows("toy", rows)


def speakers(manifest: Manifest, ids: tuple[str, ...]) -> set[tuple[str, str | None]]:
    return {(utterance.corpus, utterance.speaker) for utterance in manifest.select(ids)}


def assert_sound(folds: list[Fold], manifest: Manifest) -> None:
    """Checked the slow way, without the code under test."""
    for fold in folds:
        for one, other in combinations((fold.train, fold.dev, fold.test), 2):
            assert not set(one) & set(other)
        assert sorted(fold.train + fold.dev + fold.test) == sorted(manifest.ids)
        if fold.speaker_independent:
            assert not speakers(manifest, fold.train + fold.dev) & speakers(manifest, fold.test)
            if not fold.dev_shares_speakers:
                assert not speakers(manifest, fold.train) & speakers(manifest, fold.dev)


@st.composite
def tables(draw: st.DrawFn) -> Manifest:
    """Random speakers, uneven, in up to two corpora whose speakers have the same names."""
    count = draw(st.integers(2, 9))
    rows = []
    for number in range(count):
        corpus, gender = draw(st.sampled_from("ab")), draw(st.sampled_from(["female", "male", None]))
        for take in range(draw(st.integers(2, 6))):
            emotion = draw(st.sampled_from(EMOTIONS))
            rows.append(
                {
                    "id": f"{number}-{take}",
                    "path": "x",
                    "corpus": corpus,
                    "speaker": str(number // 2),
                    "emotion": emotion,
                }
                | {"session": str(number // 2), "gender": gender}
            )
    return Manifest.from_rows("toy", draw(st.permutations(rows)))


@settings(max_examples=60, deadline=None)
@given(manifest=tables(), protocol=st.sampled_from(["speaker", "session", "groups", "auto"]), seed=st.integers(0, 9))
def test_parts_are_disjoint_and_all_is_tested_once(manifest: Manifest, protocol: str, seed: int) -> None:
    if len(speakers(manifest, manifest.ids)) < 2:
        with pytest.raises(ValueError, match="only one speaker|two or more sessions"):
            make_folds(manifest, "session" if protocol == "session" else "speaker", seed=seed)
        return
    folds = make_folds(manifest, protocol, seed=seed)
    assert_sound(folds, manifest)
    assert check_folds(folds, manifest) == []
    assert sorted(name for fold in folds for name in fold.test) == sorted(manifest.ids)
    assert folds == make_folds(manifest, protocol, seed=seed)
    assert len({fold.name for fold in folds}) == len(folds)


@settings(max_examples=30, deadline=None)
@given(manifest=tables(), num_folds=st.integers(2, 4), seed=st.integers(0, 9))
def test_random_parts(manifest: Manifest, num_folds: int, seed: int) -> None:
    folds = make_folds(manifest, "random", num_folds, seed)
    assert_sound(folds, manifest)
    assert not any(fold.speaker_independent for fold in folds) and len(folds) == num_folds
    assert sorted(name for fold in folds for name in fold.test) == sorted(manifest.ids)


def test_speaker_rotation_and_names() -> None:
    folds = make_folds(make(["03", "08", "09"]), "speaker")
    manifest = make(["03", "08", "09"])
    assert [fold.name for fold in folds] == ["03", "08", "09"]
    assert [[{s for _, s in speakers(manifest, part)} for part in (f.train, f.dev, f.test)] for f in folds] == [
        [{"09"}, {"08"}, {"03"}], [{"03"}, {"09"}, {"08"}], [{"08"}, {"03"}, {"09"}],
    ]  # fmt: skip


def test_two_corpora_keep_their_speakers_apart() -> None:
    folds = make_folds(make(["01", "01", "02"], corpus=["a", "b", "b"]), "speaker")
    assert [fold.name for fold in folds] == ["a/01", "b/01", "b/02"]


def test_two_speakers_share_dev_and_say_so() -> None:
    manifest = make(["f", "m"], per_speaker=30)
    for fold in make_folds(manifest, "speaker"):
        assert fold.dev_shares_speakers and fold.speaker_independent
        assert Counter(u.emotion for u in manifest.select(fold.dev)) == dict.fromkeys(EMOTIONS, 2)  # 20 % of 10 each
        assert len(fold.train) == 24
    assert check_folds(make_folds(manifest, "speaker"), manifest) == []


def test_groups_are_balanced_in_gender() -> None:
    manifest = make([str(n) for n in range(20)], per_speaker=3, gender=["female"] * 10 + ["male"] * 10)
    folds = make_folds(manifest, "groups", 5)
    for fold in folds:
        genders = Counter((u.speaker, u.gender) for u in manifest.select(fold.test))
        assert Counter(gender for _, gender in genders) == {"female": 2, "male": 2}
    assert make_folds(manifest, "groups", 5, seed=1) != folds
    assert len(make_folds(manifest, "groups")) == 5 and len(make_folds(make(["a", "b", "c"]), "groups")) == 3


def test_split_column() -> None:
    manifest = make(list("abcd"), split=["train", "test", "dev", "train"])
    (fold,) = make_folds(manifest, "split")
    assert [{s for _, s in speakers(manifest, part)} for part in (fold.train, fold.dev, fold.test)] == [
        {"a", "d"},
        {"c"},
        {"b"},
    ]


def test_split_without_dev_takes_speakers_from_train() -> None:
    manifest = make(list("abcd"), split=["train", "train", "train", "test"])
    (fold,) = make_folds(manifest, "split")
    assert_sound([fold], manifest)
    assert not fold.dev_shares_speakers and len(speakers(manifest, fold.dev)) == 1
    manifest = make(list("abd"), split=["train", "train", "test"])
    (fold,) = make_folds(manifest, "split")
    assert_sound([fold], manifest)
    assert fold.dev_shares_speakers and len(speakers(manifest, fold.train)) == 2


@pytest.mark.parametrize(
    ("manifest", "first"),
    [
        (make(list("abc"), split=["train", "dev", "test"], session=["1", "2", "3"]), "split"),
        (make(list("abc"), session=["1", "2", "3"]), "1"),
        (make(list("aab"), session=["1", "2", "3"]), "a"),  # a speaker in two sessions
        (make(list("abcdefghijkl")), "a"),
        (make(list("abcdefghijklm")), "group1"),
        (make([None, None]), "part1"),
    ],
)
def test_auto(manifest: Manifest, first: str) -> None:
    folds = make_folds(manifest, "auto")
    assert folds[0].name == first and check_folds(folds, manifest) == []
    chosen = protocol_used(manifest, "auto")
    assert chosen != "auto" and make_folds(manifest, chosen) == folds and protocol_used(manifest, chosen) == chosen


def test_num_folds_with_auto_asks_for_groups() -> None:
    assert [fold.name for fold in make_folds(make(list("abcd")), "auto", 2)] == ["group1", "group2"]


def test_a_leaked_split_is_refused_by_name() -> None:
    manifest = make(list("abca"), split=["train", "dev", "test", "test"])
    folds = make_folds(manifest, "split")
    with pytest.raises(LeakError, match=r"Fold 'split': train and test share 1 speaker: toy/a\..*protocol=speaker"):
        check_folds(folds, manifest)
    assert check_folds(folds, manifest, allow_leak=True) == ["Fold 'split': train and test share 1 speaker: toy/a."]
    (marked,) = mark_leaks(folds, manifest)
    assert not marked.speaker_independent and check_folds([marked], manifest) == []


@pytest.mark.parametrize("parts", [("train", "dev"), ("train", "test"), ("dev", "test")])
def test_every_pair_of_parts_is_checked(parts: tuple[str, str]) -> None:
    manifest = make(list("abc"))
    fold = make_folds(manifest, "speaker")[0]
    one, other = parts
    moved = getattr(fold, one)[0]
    leak = replace(fold, **{one: getattr(fold, one)[1:], other: (*getattr(fold, other), moved)})
    with pytest.raises(LeakError, match=f"Fold 'a': {one} and {other} share 1 speaker: toy/"):
        check_folds([leak], manifest)
    twice = replace(fold, **{other: (*getattr(fold, other), moved)})
    with pytest.raises(LeakError, match=f"Fold 'a': {one} and {other} share 1 utterances: {moved}"):
        check_folds([twice], manifest, allow_leak=True)


def test_a_shared_dev_part_does_not_excuse_the_test_part() -> None:
    manifest = make(["a", "b", "b"], per_speaker=20)
    fold = make_folds(manifest, "speaker")[1]
    assert fold.name == "b" and fold.dev_shares_speakers
    leak = replace(fold, dev=fold.test[:5], test=fold.test[5:])
    with pytest.raises(LeakError, match="Fold 'b': dev and test share 1 speaker: toy/b"):
        check_folds([leak], manifest)


def test_a_session_that_shares_a_speaker_is_refused() -> None:
    manifest = make(list("aab"), session=["1", "2", "3"])
    with pytest.raises(LeakError, match="toy/a"):
        check_folds(make_folds(manifest, "session"), manifest)


def test_unknown_speakers_withdraw_the_claim_but_do_not_hide_a_leak() -> None:
    manifest = make(["a", "b", "c", None], split=["train", "dev", "test", "train"])
    (fold,) = make_folds(manifest, "split")
    assert not fold.speaker_independent and check_folds([fold], manifest) == []
    manifest = make(["a", "b", "a", None], split=["train", "dev", "test", "train"])
    with pytest.raises(LeakError, match="toy/a"):
        check_folds(make_folds(manifest, "split"), manifest)


def test_the_same_sound_in_train_and_test_is_a_warning() -> None:
    manifest = make(list("abc"), per_speaker=1, audio_hash=["1", "2", "1"])
    fold = make_folds(manifest, "speaker")[0]
    assert check_folds([fold], manifest) == ["Fold 'a': u0_0 (test) and u2_0 (train or dev) hold the same audio."]


@pytest.mark.parametrize(
    ("manifest", "protocol", "num_folds", "message"),
    [
        (make(["a"]), "speaker", None, r"only one speaker \(1 speaker: toy/a\).*protocol=random.*speaker-dependent"),
        (make(["a"]), "auto", None, "only one speaker"),
        (make(["a", None]), "speaker", None, "needs the speaker of every utterance; 6 of 12 have none"),
        (make(["a", "b"]), "groups", 3, "Cannot make 3 groups of 2 speakers; use num_folds=2 to 2"),
        (make(["a", "b"]), "groups", 1, "num_folds must be 2 or more, got 1"),
        (make(["a", "b"]), "speaker", 3, "leave num_folds=3 out"),
        (make(["a", "b"]), "session", None, "needs a session for every utterance; u0_0 has none"),
        (make(["a", "b"], session=["1", "1"]), "session", None, "two or more sessions, got 1"),
        (make(["a", "b"]), "split", None, "train, dev or test in the column split; u0_0 has None"),
        (make(["a", "b"], split=["train", "dev"]), "split", None, "needs test utterances"),
        (make(["a"], per_speaker=2), "random", 3, "Cannot make 3 parts of 2 utterances"),
        (
            make(["a", "b"]),
            "text",
            None,
            r"needs the sentence of every utterance; 12 of 12 have none .*protocol=groups",
        ),
        (make(["a", "b"], text=["Yes.", "yes"]), "text", None, "two sentences or more"),
        (make(["a", "b"]), "corpus", None, "two corpora or more, got toy. Join them"),
        (make(["a", "b"]), "speakers", None, "Unknown protocol 'speakers'. Did you mean 'speaker'"),
    ],
)
def test_refusals(manifest: Manifest, protocol: str, num_folds: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_folds(manifest, protocol, num_folds)


def spoken(speakers: int, sentences: int, gaps: bool = False) -> Manifest:
    """Every speaker says every sentence, in a spelling of their own; with gaps the last one only the first."""
    rows = [
        {"id": f"{speaker}-{number}", "path": "x", "speaker": str(speaker), "emotion": EMOTIONS[number % 3]}
        | {"text": f"{'Say' if speaker % 2 else 'say'}, {number}!"}
        for speaker in range(speakers)
        for number in range(1 if gaps and speaker == speakers - 1 else sentences)
    ]
    return Manifest.from_rows("toy", rows)


@pytest.mark.parametrize(
    ("speakers_", "sentences", "num_folds", "count"), [(7, 6, None, 15), (3, 2, None, 6), (2, 5, None, 6), (6, 9, 3, 9)]
)
def test_text_shares_neither_speakers_nor_sentences(
    speakers_: int, sentences: int, num_folds: int | None, count: int
) -> None:
    manifest = spoken(speakers_, sentences)
    folds = make_folds(manifest, "text", num_folds)
    assert len(folds) == count and check_folds(folds, manifest) == []
    assert sorted(name for fold in folds for name in fold.test) == sorted(manifest.ids)
    said = {utterance.id: str(utterance.text).casefold() for utterance in manifest}
    for fold in folds:
        tested = {said[name] for name in fold.test}
        assert not tested & {said[name] for name in (*fold.train, *fold.dev)} and fold.train and fold.dev
        assert not speakers(manifest, fold.test) & speakers(manifest, fold.train + fold.dev)
        assert fold.dev_shares_speakers == (speakers_ == 2)


def test_text_leaves_out_a_test_part_that_nobody_said() -> None:
    manifest = spoken(3, 4, gaps=True)
    folds = make_folds(manifest, "text")
    assert len(folds) == 7 and sorted(name for fold in folds for name in fold.test) == sorted(manifest.ids)


def test_corpus_leaves_out_one_corpus_and_dev_has_speakers_of_all_others() -> None:
    manifest = make([f"{n}" for n in range(18)], corpus=["a"] * 6 + ["b"] * 5 + ["c"] * 7)
    folds = make_folds(manifest, "corpus")
    assert [fold.name for fold in folds] == ["a", "b", "c"] and check_folds(folds, manifest) == []
    assert_sound(folds, manifest)
    for fold in folds:
        assert {corpus for corpus, _ in speakers(manifest, fold.test)} == {fold.name}
        assert {corpus for corpus, _ in speakers(manifest, fold.dev)} == set("abc") - {fold.name}


def test_groups_have_speakers_of_every_corpus() -> None:
    manifest = make([f"{n}" for n in range(17)], corpus=["a"] * 5 + ["b"] * 10 + ["c"] * 2)
    tested = [{corpus for corpus, _ in speakers(manifest, fold.test)} for fold in make_folds(manifest, "groups")]
    assert all({"a", "b"} <= corpora for corpora in tested) and sum("c" in corpora for corpora in tested) == 2


def test_empty_parts_and_unknown_ids_are_refused() -> None:
    manifest = make(list("abc"))
    fold = make_folds(manifest, "speaker")[0]
    with pytest.raises(ValueError, match="Fold 'a' has no dev utterances"):
        check_folds([replace(fold, dev=())], manifest)
    with pytest.raises(ValueError, match="Fold 'a': test has ids that are not in the manifest: zz"):
        check_folds([replace(fold, test=("zz",))], manifest)


def test_groups_balance_utterances_and_emotions(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(0)
    rows = []
    for number in range(24):
        for take in range(draw.choice([2, 5, 9, 20, 40])):
            emotion = draw.choice(EMOTIONS[: 1 + number % 3])
            rows.append({"id": f"{number}-{take}", "path": "x", "speaker": str(number), "emotion": emotion})
            rows[-1]["gender"] = ("female", "male")[number % 2]
    manifest = Manifest.from_rows("toy", rows)
    folds = make_folds(manifest, "groups", 4)
    assert folds == make_folds(manifest, "groups", 4)
    monkeypatch.setattr(module, "_balance", lambda profiles, place, num_groups: place)
    dealt = make_folds(manifest, "groups", 4)

    def widths(found: list[Fold]) -> list[int]:
        """Largest less smallest count over the folds: of all utterances, and of each emotion."""
        counts = [Counter(u.emotion for u in manifest.select(fold.test)) for fold in found]
        return [
            max(values) - min(values)
            for values in ([c.total() for c in counts], *([c[one] for c in counts] for one in EMOTIONS))
        ]

    assert all(2 * now <= before for now, before in zip(widths(folds), widths(dealt), strict=True))
    speakers_of = [{(u.speaker, u.gender) for u in manifest.select(fold.test)} for fold in folds]
    assert all(2 <= Counter(gender for _, gender in some)["female"] <= 4 for some in speakers_of)


def test_groups_that_are_balanced_stay_as_they_were_dealt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal speakers, as in RAVDESS: 24 of 6 utterances in six groups of two women and two men."""
    manifest = make([f"{n:02d}" for n in range(24)], gender=["female", "male"] * 12)
    folds = make_folds(manifest, "groups", 6)
    monkeypatch.setattr(module, "_balance", lambda profiles, place, num_groups: place)
    assert folds == make_folds(manifest, "groups", 6)


@pytest.mark.parametrize("number", [2, 3, 4, 9])
def test_inner_folds_score_each_speaker_once_by_the_others_and_balance_classes(number: int) -> None:
    draw = np.random.default_rng(number)
    speakers = [("toy", f"s{one}") for one in draw.permutation(np.repeat(np.arange(number), 24))]
    labels = draw.integers(-1, 4, len(speakers))
    parts, by_speaker = inner_folds(speakers, labels)
    assert by_speaker and len(parts) == min(3, number)
    assert sorted(np.concatenate([scored for _, scored in parts])) == list(range(len(speakers)))
    for fitted, scored in parts:
        assert not {speakers[one] for one in fitted} & {speakers[one] for one in scored}
        assert sorted([*fitted, *scored]) == list(range(len(speakers)))
        assert set(labels[scored]) == set(labels)
    again, _ = inner_folds(speakers, labels)
    assert all((one[1] == other[1]).all() for one, other in zip(parts, again, strict=True))


def test_inner_folds_score_every_class_although_speakers_say_one_alone() -> None:
    """In the order of the speakers, a fold would score one class."""
    speakers = np.repeat(["a1", "a2", "b1", "b2", "c1", "c2"], 12)
    labels = np.concatenate([np.zeros(24, int), np.ones(24, int), np.tile([0, 1], 12)])
    for _, scored in inner_folds(list(speakers), labels)[0]:
        assert np.bincount(labels[scored]).min() > 0


@pytest.mark.parametrize("speakers", [["a"] * 12, [("toy", None)] * 6 + [("toy", "a")] * 6, [None] * 12])
def test_inner_folds_without_two_known_speakers_divide_utterances_by_class(speakers: list[object]) -> None:
    labels = np.tile([0, 1], 6)
    parts, by_speaker = inner_folds(speakers, labels)
    assert not by_speaker and len(parts) == 3
    assert all(np.bincount(labels[scored]).tolist() == [2, 2] for _, scored in parts)
    assert len(inner_folds(speakers[:2], np.zeros(2, int))[0]) == 2
    with pytest.raises(ValueError, match="only one training utterance"):
        inner_folds(speakers[:1], labels[:1])
