"""Folds: train, dev and test parts that share no speaker, and the check that refuses folds that leak.

Protocols
    `speaker`  leave one speaker out
    `session`  leave one session out
    `groups`   k groups of speakers, balanced in utterances, emotions, and the speakers and utterances of each gender;
               of several corpora each is divided so
    `text`     groups of speakers x groups of sentences: neither the speakers nor the sentences of test are in train
    `corpus`   leave one corpus out, of several
    `across`   train on one corpus of several, test on all others
    `split`    the corpus' own train / dev / test column: one fold
    `random`   k parts stratified by emotion, for corpora without speaker labels; marked speaker-dependent everywhere
    `auto`     split if it has a test part; else session; else speaker (up to 12), groups (more), random (none)

Dev of fold i is the test part of fold i + 1, so that every choice is made on speakers outside train and test. Dev of
`text` is what the next group of speakers say of the training sentences; of `corpus` and `across`, a fifth of the
training speakers.
"""

from __future__ import annotations

import random
import threading
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Any

import numpy as np

from undertone.common.discovery import nearest
from undertone.corpora.manifest import Manifest, Speaker, SpeakerIndex, listed

NUM_FOLDS = 5
NUM_TEXT_GROUPS = 3
NUM_INNER_FOLDS = 3
MOST_SPEAKERS_LEFT_OUT = 12
DEV_FRACTION = 0.2
_FILTERING = threading.Lock()

_MOST_ROUNDS = 100
_LEAST_GAIN = 1e-12  # of a move, so that rounding errors move no speaker
_MOST_WARNINGS = 5  # per fold, of audio that is on both sides


class LeakError(ValueError):
    """A fold would be tested or tuned on its training data."""


@dataclass(frozen=True)
class Fold:
    """One train / dev / test triple.

    Attributes:
        name: unique in its protocol: the speaker, the session, `group1`, `split`, `part1`.
        train: utterance ids.
        dev: utterance ids; for every choice.
        test: utterance ids; only for the score.
        dev_shares_speakers: dev was split off the training speakers' utterances, because there are too few speakers.
        speaker_independent: claims that no test speaker is in train or dev; `check_folds` refuses a false claim.
    """

    name: str
    train: tuple[str, ...]
    dev: tuple[str, ...]
    test: tuple[str, ...]
    dev_shares_speakers: bool = False
    speaker_independent: bool = True

    @property
    def parts(self) -> dict[str, tuple[str, ...]]:
        """The ids by part."""
        return {"train": self.train, "dev": self.dev, "test": self.test}


def make_folds(manifest: Manifest, protocol: str, num_folds: int | None = None, seed: int = 0) -> list[Fold]:
    """Split a manifest by a protocol (see the module's docstring). Deterministic.

    Args:
        manifest: the utterances.
        protocol: `speaker`, `session`, `groups`, `text`, `corpus`, `across`, `split`, `random` or `auto`.
        num_folds: for `groups` and `random`, which `auto` then stands for, and of `text` the groups of speakers; None =
            5, or the number of speakers.
        seed: for the groups, the random parts and dev parts that share speakers.

    Raises:
        ValueError: the protocol is unknown, or the manifest lacks the labels or speakers it needs.
    """
    index = manifest.speaker_index
    if protocol == "auto":
        protocol = _choose(index, num_folds)
    if protocol not in _PROTOCOLS and num_folds is None:
        raise ValueError(f"Unknown protocol {protocol!r}.{nearest(protocol, PROTOCOLS)}")
    if num_folds is not None and protocol not in ("groups", "random", "text"):
        raise ValueError(f"Protocol {protocol!r} determines the number of folds; leave num_folds={num_folds} out.")
    if num_folds is not None and num_folds < 2:
        raise ValueError(f"num_folds must be 2 or more, got {num_folds}.")
    folds = _PROTOCOLS[protocol](index, num_folds, seed)
    for place, fold in enumerate(folds):  # unknown speakers are marked; a known leak stays unmarked, to be refused
        unknown = any(None in index.speaker.of(part) for part in fold.parts.values())
        if unknown and not shared_speakers(fold, index):
            folds[place] = replace(fold, speaker_independent=False)
    return folds


def protocol_used(manifest: Manifest, protocol: str, num_folds: int | None = None) -> str:
    """What `auto` stands for; any other protocol is itself."""
    return _choose(manifest.speaker_index, num_folds) if protocol == "auto" else protocol


def rotate_units(units: Mapping[str, Sequence[str]], manifest: Manifest, seed: int = 0) -> list[Fold]:
    """Folds from two or more groups of utterance ids: each is the test part once, with the next one as dev part."""
    if len(units) < 2:
        raise ValueError(f"Folds need two or more parts with different speakers, got {', '.join(units)}. Add speakers.")
    return _rotate(units, manifest.speaker_index, seed)


def split_by_speaker(name: str, parts: Mapping[str, Collection[str]], manifest: Manifest, seed: int = 0) -> list[Fold]:
    """One fold from the speakers of `test` and, if given, `dev`; all others are train, some of them dev if none is."""
    part_of = {speaker: part for part, some in parts.items() for speaker in some}
    ids: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    for one, speaker in zip(manifest.ids, manifest.column("speaker"), strict=True):
        ids[part_of.get(speaker, "train")].append(one)
    if "dev" not in parts:
        return [split_off_dev(name, ids["train"], ids["test"], manifest.speaker_index, seed)]
    return [Fold(name, tuple(ids["train"]), tuple(ids["dev"]), tuple(ids["test"]))]


def _choose(index: SpeakerIndex, num_folds: int | None) -> str:
    """The protocol that `auto` stands for."""
    num_speakers = len(index.speakers_of(index.ids))
    if num_folds is not None:
        return "groups" if num_speakers else "random"
    splits = set(index.split.values())
    if splits <= {"train", "dev", "test"} and {"train", "test"} <= splits:
        return "split"
    if None not in index.session.values() and len(set(index.session.values())) > 1 and not _speakers_move(index):
        return "session"
    if num_speakers > MOST_SPEAKERS_LEFT_OUT:
        return "groups"
    return "speaker" if num_speakers else "random"


def _speakers_move(index: SpeakerIndex) -> bool:
    """Whether a speaker is in several sessions, so that leave-one-session-out would leak."""
    pairs = set(zip(index.speaker.values(), index.session.values(), strict=True))
    pairs = {(speaker, session) for speaker, session in pairs if speaker is not None}
    return len(pairs) > len(index.speakers_of(index.ids))


def _by_speaker(index: SpeakerIndex, num_folds: int | None, seed: int) -> list[Fold]:
    return _rotate(_named_units(_known_speakers(index, "speaker")), index, seed)


def _by_session(index: SpeakerIndex, num_folds: int | None, seed: int) -> list[Fold]:
    units = defaultdict(list)
    for name, session in index.session.items():
        if session is None:
            raise ValueError(f"Protocol 'session' needs a session for every utterance; {name} has none.")
        units[session].append(name)
    if len(units) < 2:
        raise ValueError(f"Protocol 'session' needs two or more sessions, got {len(units)}. Use protocol=speaker.")
    return _rotate(_named_units({session: units[session] for session in sorted(units)}), index, seed)


def _by_groups(index: SpeakerIndex, num_folds: int | None, seed: int) -> list[Fold]:
    groups = _speaker_groups(_known_speakers(index, "groups"), index, num_folds, seed)
    return _rotate({f"group{number}": ids for number, ids in enumerate(groups, 1)}, index, seed)


def _by_text(index: SpeakerIndex, num_folds: int | None, seed: int) -> list[Fold]:
    if unknown := [name for name, text in index.text.items() if not text]:
        raise ValueError(
            f"Protocol 'text' needs the sentence of every utterance; {len(unknown)} of {len(index.ids)} have none "
            f"({listed(unknown)}). Fill the column text, or use protocol=groups, whose folds share sentences."
        )
    said: defaultdict[str, list[str]] = defaultdict(list)
    for name in index.ids:
        said[str(index.text[name])].append(name)
    if len(said) < 2:
        raise ValueError("Protocol 'text' needs two sentences or more; all utterances say one. Use protocol=groups.")
    groups = _speaker_groups(_known_speakers(index, "text"), index, num_folds, seed)
    texts = [set(part) for part in _deal(said, index, min(NUM_TEXT_GROUPS, len(said)), seed)]
    folds = []
    for (speaker, own), (number, same) in product(enumerate(groups), enumerate(texts, 1)):
        name, next_group = f"group{speaker + 1}-text{number}", groups[(speaker + 1) % len(groups)]
        test = [one for one in own if one in same]
        if not test:  # these speakers say none of these sentences
            continue
        if len(groups) == 2:
            folds.append(_share_dev(name, [one for one in next_group if one not in same], test, index, seed))
            continue
        rest = (ids for place, ids in enumerate(groups) if place not in (speaker, (speaker + 1) % len(groups)))
        train = [one for ids in rest for one in ids if one not in same]
        folds.append(Fold(name, tuple(train), tuple(one for one in next_group if one not in same), tuple(test)))
    return folds


def _by_corpus(index: SpeakerIndex, num_folds: int | None, seed: int) -> list[Fold]:
    return [split_off_dev(name, others, own, index, seed) for name, own, others in _corpora(index, "corpus")]


def _across(index: SpeakerIndex, num_folds: int | None, seed: int) -> list[Fold]:
    return [split_off_dev(name, own, others, index, seed) for name, own, others in _corpora(index, "across")]


def _corpora(index: SpeakerIndex, protocol: str) -> list[tuple[str, list[str], list[str]]]:
    """(name, its utterances, all others) of each corpus; refuses a single one."""
    names = sorted(set(index.corpus.values()))
    if len(names) < 2:
        raise ValueError(f"Protocol {protocol!r} needs two corpora or more, got {', '.join(names)}. Join them: A+B.")
    own = {name: [one for one in index.ids if index.corpus[one] == name] for name in names}
    return [(name, own[name], [one for one in index.ids if index.corpus[one] != name]) for name in names]


def _by_split(index: SpeakerIndex, num_folds: int | None, seed: int) -> list[Fold]:
    parts: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    for name, split in index.split.items():
        if split not in parts:
            raise ValueError(f"Protocol 'split' needs train, dev or test in the column split; {name} has {split!r}.")
        parts[split].append(name)
    for part in ("train", "test"):
        if not parts[part]:
            raise ValueError(f"Protocol 'split' needs {part} utterances; the column split has none. Use protocol=auto.")
    if parts["dev"]:
        return [Fold("split", tuple(parts["train"]), tuple(parts["dev"]), tuple(parts["test"]))]
    return [split_off_dev("split", parts["train"], parts["test"], index, seed)]


def _by_chance(index: SpeakerIndex, num_folds: int | None, seed: int) -> list[Fold]:
    num_parts = num_folds or NUM_FOLDS
    if num_parts > len(index.ids):
        raise ValueError(f"Cannot make {num_parts} parts of {len(index.ids)} utterances; use fewer (num_folds).")
    parts: list[list[str]] = [[] for _ in range(num_parts)]
    for number, name in enumerate(_stratified(index.ids, index, seed)):
        parts[number % num_parts].append(name)
    folds = _rotate({f"part{number}": ids for number, ids in enumerate(parts, 1)}, index, seed)
    return [replace(fold, speaker_independent=False, dev_shares_speakers=True) for fold in folds]


_PROTOCOLS: dict[str, Callable[[SpeakerIndex, int | None, int], list[Fold]]] = {
    "speaker": _by_speaker,
    "session": _by_session,
    "groups": _by_groups,
    "text": _by_text,
    "corpus": _by_corpus,
    "across": _across,
    "split": _by_split,
    "random": _by_chance,
}
PROTOCOLS = (*_PROTOCOLS, "auto")


def _known_speakers(index: SpeakerIndex, protocol: str) -> dict[Speaker, list[str]]:
    """Utterances by speaker; refuses unknown speakers, and a single one."""
    if unknown := [name for name in index.ids if index.speaker[name] is None]:
        raise ValueError(
            f"Protocol {protocol!r} needs the speaker of every utterance; {len(unknown)} of {len(index.ids)} have none "
            f"({listed(unknown)}). Fill the column speaker, or use protocol=random, which is speaker-dependent."
        )
    units = index.by_speaker(index.ids)
    if len(units) < 2:
        raise ValueError(
            f"There is only one speaker ({named_speakers(units)}), so none is left to test on. Add speakers, or use "
            f"protocol=random: its scores hold only for this speaker and are marked speaker-dependent."
        )
    return units


def _named_units(units: Mapping[tuple[str, str], list[str]]) -> dict[str, list[str]]:
    """Name each (corpus, label) unit by its label, or by both if there are several corpora."""
    several = len({corpus for corpus, _ in units}) > 1
    return {f"{corpus}/{label}" if several else label: ids for (corpus, label), ids in units.items()}


def _rotate(units: Mapping[str, Sequence[str]], index: SpeakerIndex, seed: int) -> list[Fold]:
    """Each unit is the test part once, with the next one as dev part."""
    names = list(units)
    folds = []
    for number, name in enumerate(names):
        dev = names[(number + 1) % len(names)]
        if len(names) == 2:
            folds.append(_share_dev(name, units[dev], units[name], index, seed))
            continue
        train = [utterance for other in names if other not in (name, dev) for utterance in units[other]]
        folds.append(Fold(name, tuple(train), tuple(units[dev]), tuple(units[name])))
    return folds


def split_off_dev(name: str, train: Sequence[str], test: Sequence[str], index: SpeakerIndex, seed: int) -> Fold:
    """Separate speakers as dev part if train has three or more, else shared ones."""
    units = index.by_speaker(train)
    if len(units) < 3:
        return _share_dev(name, train, test, index, seed)
    dev = set(_speaker_groups(units, index, None, seed)[0])
    return Fold(name, tuple(utterance for utterance in train if utterance not in dev), tuple(sorted(dev)), tuple(test))


def _share_dev(name: str, train: Sequence[str], test: Sequence[str], index: SpeakerIndex, seed: int) -> Fold:
    """A dev part from the training speakers: 20 % of their utterances, stratified by emotion."""
    every = round(1 / DEV_FRACTION)
    dev = set(_stratified(train, index, seed)[::every])
    rest = tuple(utterance for utterance in train if utterance not in dev)
    return Fold(name, rest, tuple(sorted(dev)), tuple(test), dev_shares_speakers=True)


def _stratified(ids: Iterable[str], index: SpeakerIndex, seed: int) -> list[str]:
    """The ids sorted by emotion and shuffled within: taking every k-th keeps the proportions of emotions."""
    strata: defaultdict[str, list[str]] = defaultdict(list)
    for name in sorted(ids):
        strata[index.emotion[name] or ""].append(name)
    for emotion in sorted(strata):
        random.Random(f"{seed}/{emotion}").shuffle(strata[emotion])
    return [name for emotion in sorted(strata) for name in strata[emotion]]


def _speaker_groups(
    units: Mapping[Speaker, list[str]], index: SpeakerIndex, num_groups: int | None, seed: int
) -> list[list[str]]:
    """Groups of speakers; those of each corpus are dealt apart, so that it is in as many groups as it can be."""
    number = min(NUM_FOLDS, len(units)) if num_groups is None else num_groups
    if number > len(units):
        raise ValueError(f"Cannot make {number} groups of {len(units)} speakers; use num_folds=2 to {len(units)}.")
    groups: list[list[str]] = [[] for _ in range(number)]
    first = 0
    for corpus in sorted({corpus for corpus, _ in units}):
        own = {speaker: ids for speaker, ids in units.items() if speaker[0] == corpus}
        dealt = _deal(own, index, min(number, len(own)), seed)
        for place, ids in enumerate(dealt, first):
            groups[place % number] += ids
        first += len(dealt)
    return groups


def _deal(units: Mapping[Any, list[str]], index: SpeakerIndex, num_groups: int, seed: int) -> list[list[str]]:
    """Deal shuffled speakers (or sentences) to the group with the fewest of their gender, then balance the groups."""
    order = list(units)
    random.Random(seed).shuffle(order)
    genders = {speaker: index.gender[units[speaker][0]] or "" for speaker in order}
    groups: list[list[Any]] = [[] for _ in range(num_groups)]
    for speaker in order:
        same = [sum(genders[one] == genders[speaker] for one in group) for group in groups]
        smallest = min(zip(same, map(len, groups), range(num_groups), strict=True))[-1]
        groups[smallest].append(speaker)
    place = {speaker: number for number, group in enumerate(groups) for speaker in group}
    profiles = _profiles([units[speaker] for speaker in order], [genders[speaker] for speaker in order], index)
    found = _balance(profiles, np.array([place[speaker] for speaker in order]), num_groups)
    groups = [sorted(order[row] for row in np.flatnonzero(found == number)) for number in range(num_groups)]
    return [[utterance for speaker in group for utterance in units[speaker]] for group in groups]


def _profiles(units: Sequence[Sequence[str]], genders: Sequence[str], index: SpeakerIndex) -> np.ndarray:
    """(S, F) float64 counts of S speakers to balance.

    Four kinds of counts: utterances; utterances by emotion; utterances by gender; speakers by gender. They are scaled
    so that the squared deviations of a kind add up to a mean squared relative deviation.
    """
    counted = [Counter(emotion or "" for emotion in index.emotion.of(ids)) for ids in units]
    emotions = sorted({emotion for counts in counted for emotion in counts})
    names = sorted(set(genders))
    labels = np.array([[counts[one] for one in emotions] for counts in counted])
    sizes = np.array([[len(ids)] for ids in units])  # (S, 1)
    is_of = np.array([[gender == one for one in names] for gender in genders])  # (S, genders)
    kinds = [counts.astype(float) for counts in (sizes, labels, is_of * sizes, is_of)]
    return np.concatenate([kind / np.sqrt(kind.sum(0) * kind.sum()) for kind in kinds], axis=1)


def _balance(profiles: np.ndarray, place: np.ndarray, num_groups: int) -> np.ndarray:
    """Move and swap speakers between groups as long as that brings the groups' sums closer to their mean.

    A local search: each speaker in turn takes the move, or the swap with another, that most reduces the sum over
    groups of squared deviations.

    Args:
        profiles: (S, F) from `_profiles`.
        place: (S,) int64, the group of each speaker; each group has one or more.
        num_groups: K.

    Returns:
        (S,) int64 groups.
    """
    place = place.copy()
    sums = np.stack([profiles[place == group].sum(0) for group in range(num_groups)])  # (K, F)
    rows, everyone = np.arange(num_groups), np.arange(len(place))
    for _ in range(_MOST_ROUNDS):
        changed = False
        for one in everyone:
            home, mine = place[one], profiles[one]
            gap = sums - sums[home]  # (K, F)
            moves = 2 * ((gap + mine) * mine).sum(1)  # (K,) change of the sum of squares
            moves[home] = np.inf
            if (place == home).sum() == 1:
                moves[:] = np.inf
            change = profiles - mine  # (S, F), what home gains by a swap
            swaps = 2 * ((change - gap[place]) * change).sum(1)  # (S,)
            swaps[place == home] = np.inf
            best = min(moves.min(), swaps.min())
            if best > -_LEAST_GAIN:
                continue
            changed = True
            if moves.min() <= swaps.min():
                target = int(rows[moves.argmin()])
                sums[home], sums[target], place[one] = sums[home] - mine, sums[target] + mine, target
            else:
                other = int(swaps.argmin())
                target, step = place[other], change[other].copy()
                sums[home], sums[target] = sums[home] + step, sums[target] - step
                place[one], place[other] = target, home
        if not changed:
            break
    return place


def inner_folds(speakers: Sequence[Hashable], labels: np.ndarray) -> tuple[list[tuple[np.ndarray, np.ndarray]], bool]:
    """Folds inside a training part, to choose settings: each speaker is scored once, by a model of other speakers.

    Three folds, or two if there are two speakers, with balanced classes (scikit-learn's `StratifiedGroupKFold`). With
    one speaker, or unknown ones, utterances are split instead.

    Args:
        speakers: of N utterances; a tuple that ends with None is an unknown one.
        labels: (N,) int64 classes to balance, -1 = missing.

    Returns:
        (positions to fit on, positions to score) of each fold, and whether the two never share a speaker.
    """
    from sklearn.model_selection import KFold, StratifiedGroupKFold, StratifiedKFold

    names = [str(speaker) for speaker in speakers]
    known = not any(speaker is None or (isinstance(speaker, tuple) and speaker[-1] is None) for speaker in speakers)
    everyone = np.zeros(len(labels))
    by_speaker = known and len(set(names)) > 1
    number = min(NUM_INNER_FOLDS, len(set(names)) if by_speaker else len(labels))
    if number < 2:
        raise ValueError("There is only one training utterance: nothing can be chosen. Add utterances.")
    enough = np.bincount(labels + 1).max() >= number
    if by_speaker:
        parts = StratifiedGroupKFold(number).split(everyone, labels if enough else everyone.astype(np.int64), names)
        return [(fitted, scored) for fitted, scored in parts if len(fitted) and len(scored)], True
    plain = StratifiedKFold(number) if enough else KFold(number)
    with _FILTERING, warnings.catch_warnings():  # filters are of the whole process; folds may be in threads
        warnings.simplefilter("ignore")  # a class with fewer utterances than folds
        return list(plain.split(everyone, labels)), False


# ---- The check of folds.


def check_folds(folds: Sequence[Fold], manifest: Manifest, allow_leak: bool = False) -> list[str]:
    """Refuse folds that leak; every run calls this before training.

    Args:
        folds: from `make_folds`, a corpus' `folds`, or by hand.
        manifest: the utterances.
        allow_leak: shared speakers become warnings; then use `mark_leaks`, so that the results say so.

    Returns:
        Warnings: shared speakers that were allowed, and audio that is in train or dev and, under another id, in test;
        `mark_leaks` marks both as speaker-dependent.

    Raises:
        LeakError: parts share an utterance, or speakers where the fold claims that they do not; names them.
        ValueError: a part is empty or has an id that is not in the manifest.
    """
    index = manifest.speaker_index
    warnings = []
    for fold in folds:
        _check_parts(fold, index)
        for one, other, speakers in shared_speakers(fold, index):
            if not fold.speaker_independent:
                continue  # already marked
            message = f"Fold {fold.name!r}: {one} and {other} share {named_speakers(speakers)}."
            if not allow_leak:
                raise LeakError(
                    f"{message} Its scores would not hold for new speakers. Divide by speaker (protocol=speaker or "
                    f"groups), or allow the leak (allow_leak=true): every table will then say speaker-dependent."
                )
            warnings.append(message)
        warnings += _shared_audio(fold, index)
    return warnings


def mark_leaks(folds: Sequence[Fold], manifest: Manifest) -> list[Fold]:
    """The same folds, marked speaker-dependent if their parts share speakers, or audio under two ids."""
    index = manifest.speaker_index
    return [
        replace(fold, speaker_independent=False) if shared_speakers(fold, index) or _shared_audio(fold, index) else fold
        for fold in folds
    ]


def _check_parts(fold: Fold, index: SpeakerIndex) -> None:
    for part, ids in fold.parts.items():
        if unknown := [name for name in ids if name not in index.speaker]:
            raise ValueError(f"Fold {fold.name!r}: {part} has ids that are not in the manifest: {listed(unknown)}.")
        if not ids:
            raise ValueError(f"Fold {fold.name!r} has no {part} utterances; it needs more data, or fewer folds.")
    for one, other in combinations(fold.parts, 2):
        if shared := sorted(set(fold.parts[one]) & set(fold.parts[other])):
            raise LeakError(f"Fold {fold.name!r}: {one} and {other} share {len(shared)} utterances: {listed(shared)}.")


def shared_speakers(fold: Fold, index: SpeakerIndex) -> list[tuple[str, str, list[Speaker]]]:
    """(part, part, known speakers of both), except for a dev part that is marked as sharing training speakers."""
    leaks = []
    for one, other in combinations(fold.parts, 2):
        shared = index.speakers_of(fold.parts[one]) & index.speakers_of(fold.parts[other])
        if shared and not (fold.dev_shares_speakers and (one, other) == ("train", "dev")):
            leaks.append((one, other, sorted(shared)))
    return leaks


def _shared_audio(fold: Fold, index: SpeakerIndex) -> list[str]:
    """A warning for each test utterance whose audio, or part of it, is in train or dev under another id."""
    warnings = []
    both = (*fold.train, *fold.dev)
    trained = list(zip(both, index.audio_hash.of(both), index.overlap.of(both), strict=True))
    same, parts = {audio: name for name, audio, _ in trained}, {group: name for name, _, group in trained}
    tested = zip(fold.test, index.audio_hash.of(fold.test), index.overlap.of(fold.test), strict=True)
    for name, audio, group in tested:
        if audio and (other := same.get(audio)):
            warnings.append(f"Fold {fold.name!r}: {name} (test) and {other} (train or dev) hold the same audio.")
        elif group and (other := parts.get(group)):
            warnings.append(f"Fold {fold.name!r}: {name} (test) overlaps {other} (train or dev) in audio.")
    if len(warnings) > _MOST_WARNINGS:
        rest = len(warnings) - _MOST_WARNINGS
        warnings = [*warnings[:_MOST_WARNINGS], f"Fold {fold.name!r}: the same holds for {rest} more test utterances."]
    return warnings


def named_speakers(speakers: Iterable[Speaker]) -> str:
    """`2 speakers: emodb/03, emodb/08`."""
    names = [f"{corpus}/{speaker}" for corpus, speaker in speakers]
    return f"{len(names)} speaker{'s' * (len(names) > 1)}: {listed(names)}"
