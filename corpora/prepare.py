"""Read and check every file of a corpus: rows -> manifest, broken files, warnings."""

from __future__ import annotations

import gc
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from undertone.audio.read import AudioError, audio_info, loudness_warning, read_samples
from undertone.common.console import Display
from undertone.common.files import remove_drafts
from undertone.corpora.corpus import Corpus
from undertone.corpora.manifest import FILES, Manifest
from undertone.corpora.measured import MEASURED_FILE, Measured, Segment, load_measured, save_measured, segments_of
from undertone.corpora.overlap import landmarks, overlaps

FAINT_PEAK = 10 ** (-60 / 20)
"""Peak below which a file gets a warning: -60 dBFS. Digital silence is skipped."""

SHORT_S = 0.025
"""Shorter audio is less than one frame of wav2vec 2.0 and similar models, and is padded."""

_FIELDS = ("duration", "audio_hash", "size", "mtime_ns")  # of `Measured`, that a manifest has too
_BLOCK = 1000  # files whose size and time a thread asks for at once
_THREADS = min(8, os.cpu_count() or 1)  # libsndfile and hashlib release the GIL


@dataclass(frozen=True)
class Prepared:
    """The result of `prepare`.

    Attributes:
        manifest: the usable utterances.
        broken: (path, reason) of each skipped utterance.
        warnings: doubts about utterances that were kept.
        formats: utterances by (sample rate in Hz, channels).
        measured: what reading the audio of the usable utterances gave.
    """

    manifest: Manifest
    broken: list[tuple[str, str]]
    warnings: list[str]
    formats: Counter[tuple[int, int]]
    measured: Mapping[Segment, Measured]

    def save(self, folder: Path) -> None:
        """Write the manifest, and beside it what was measured: a run on the folder reads changed files alone."""
        save_measured(folder / MEASURED_FILE, self.measured)
        self.manifest.save(folder)


@contextmanager
def _without_collector() -> Iterator[None]:
    """Python's cyclic collector walks all rows again and again and frees none: a third of the time of a large table."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


@_without_collector()
def prepare(
    corpus: Corpus,
    root: Path | None,
    *,
    strict: bool = False,
    progress: Callable[[int, int], None] | None = None,
    trusted: Path | None = None,
) -> Prepared:
    """Read every file of a corpus, skip the broken ones, and build the manifest of the others.

    Args:
        corpus: from `load_corpus`.
        root: the folder with its files; None = the corpus' default.
        strict: refuse broken files.
        progress: called with (files done, number of files) after each file.
        trusted: folder with a cache of results; a file that was good before is not read again while its size and
            modification time are the same. None: every file is read.

    Raises:
        ValueError: the corpus is not under `root`; all files are broken, or any with `strict`; ids repeat; a table's
            path leads out of the given `root`.
    """
    given, root = root, root or corpus.default_root
    if root is None:
        raise ValueError(f"{corpus.name} needs --root, the folder with its files. Get them from {corpus.url}.")
    rows = list(corpus.rows(root))
    if given is not None and corpus.confined:
        check_inside(corpus, rows, given)
    segments = segments_of(rows)
    record: Path | None = None
    known: Mapping[Segment, Measured] = {}
    if trusted is not None:
        remove_drafts(trusted)
        record = record_of(trusted, corpus, root)
        known = load_measured(record) or corpus.measured()
    checks = _check(segments, known, progress)
    broken = [(check.path, check.reason) for check in checks if isinstance(check, AudioError)]
    if broken and (strict or len(broken) == len(rows)):
        raise ValueError(_refusal(corpus, broken, len(rows), given))
    good = [(row, check) for row, check in zip(rows, checks, strict=True) if isinstance(check, Measured)]
    found = {segment: check for segment, check in zip(segments, checks, strict=True) if isinstance(check, Measured)}
    if record is not None and not (record.is_file() and _same(found, known)):
        save_measured(record, found)
    filled = [
        row | {"path": segment[0], **{name: getattr(check, name) for name in _FIELDS}}
        for row, segment, check in zip(rows, segments, checks, strict=True)
        if isinstance(check, Measured)
    ]
    _mark_overlaps(filled, [check.landmarks for _, check in good])
    manifest = Manifest.from_rows(corpus.name, filled)
    warnings = [
        *corpus.notes,
        *unexpected_counts(corpus, rows),
        *(line for row, check in good for line in _doubts(row, check)),
        *_duplicates(manifest),
        *_two_speakers(manifest),
    ]
    formats = Counter((check.sample_rate, check.channels) for _, check in good)
    return Prepared(manifest, broken, warnings, formats, found)


def prepare_corpus(
    corpus: Corpus, root: str | Path | None, display: Display, *, strict: bool = False, trusted: Path | None = None
) -> Prepared:
    """`prepare` with a progress bar."""
    with display.bar(f"checking {corpus.name}") as advance:
        return prepare(
            corpus,
            Path(root).expanduser() if root else None,
            strict=strict,
            progress=lambda done, total: advance(done, total, ""),
            trusted=trusted,
        )


def record_of(folder: Path, corpus: Corpus, root: Path) -> Path:
    """The file in a folder of results where those of a corpus are kept."""
    return folder / f"{hashlib.sha256(f'{corpus.name} {root.absolute()}'.encode()).hexdigest()[:32]}.arrow"


def hash_audio(samples: np.ndarray, sample_rate: int) -> str:
    """SHA-256 of (N,) float32 mono samples and their rate in Hz: a FLAC copy of a wav has the same hash."""
    digest = hashlib.sha256(str(sample_rate).encode())
    digest.update(np.ascontiguousarray(samples, dtype="<f4").data)
    return digest.hexdigest()


def check_unchanged(manifest: Manifest) -> None:
    """Refuse files whose audio has changed since the manifest was made; a missing file may no longer be needed.

    A file whose size and modification time are those of the manifest is not read again. The ValueError names some.
    """
    changed = []
    columns = ("path", "start", "end", "size", "mtime_ns", "audio_hash")
    for name, start, end, size, mtime_ns, known in zip(*(manifest.column(name) for name in columns), strict=True):
        if (stamp := _stamp(name)) not in ((size, mtime_ns), (0, 0)):
            check = _read((name, start, end), stamp)
            if isinstance(check, AudioError) or check.audio_hash != known:
                changed.append(name)
    if changed:
        raise ValueError(
            f"{len(changed)} of {len(manifest)} files hold other audio than when this manifest was made: "
            f"{', '.join(changed[:3])}. Restore them, or cross-validate again with another --out."
        )


def summary(prepared: Prepared) -> list[tuple[str, str]]:
    """(name, value) rows of the table that `undertone prepare` prints."""
    manifest = prepared.manifest
    durations = manifest.column("duration")
    speakers = set(zip(manifest.column("corpus"), manifest.column("speaker"), strict=True))
    num_speakers = sum(speaker is not None for _, speaker in speakers)
    rows = [
        ("utterances", str(len(manifest))),
        ("skipped", str(len(prepared.broken))),
        ("hours", f"{sum(durations) / 3600:.2f}"),
        ("duration", f"{min(durations):.2f} to {max(durations):.2f} s, median {median(durations):.2f} s"),
        ("speakers", str(num_speakers) if num_speakers else "unknown"),
    ]
    for name in ("gender", "emotion", "session", "split"):
        counts = Counter(value for value in manifest.column(name) if value is not None)
        if counts:
            rows.append((name, ", ".join(f"{value} {count}" for value, count in sorted(counts.items()))))
    for (rate, channels), count in sorted(prepared.formats.items()):
        rows.append((f"{rate} Hz, {channels} channel{'s' * (channels > 1)}", str(count)))
    return rows


def _doubts(row: Mapping[str, Any], check: Measured) -> Iterator[str]:
    """Warnings about an utterance that is kept."""
    if check.duration < SHORT_S:
        yield f"{row['id']} lasts {check.duration * 1000:.1f} ms, less than one frame; it will be padded."
    if check.peak < FAINT_PEAK:
        yield f"{row['id']} is nearly silent: its peak is {20 * np.log10(check.peak):.0f} dBFS."
    if loud := loudness_warning(check.peak):
        yield f"{row['id']} has {loud}."


def _check(
    segments: Sequence[Segment], known: Mapping[Segment, Measured], progress: Callable[[int, int], None] | None
) -> list[Measured | AudioError]:
    """What is known of unchanged files, and of the others what reading them gives; errors do not stop it."""

    def say(done: int) -> None:
        if progress is not None:
            progress(done, len(segments))

    with ThreadPoolExecutor(_THREADS) as pool:
        blocks = [segments[first : first + _BLOCK] for first in range(0, len(segments), _BLOCK)]
        stamps = [stamp for block in pool.map(_stamps, blocks) for stamp in block]
        checks: list[Any] = [_still(known.get(one), stamp) for one, stamp in zip(segments, stamps, strict=True)]
        unread = [row for row, check in enumerate(checks) if check is None]
        done = len(checks) - len(unread)
        if done:
            say(done)
        for row, check in zip(unread, pool.map(lambda row: _read(segments[row], stamps[row]), unread), strict=True):
            checks[row], done = check, done + 1
            say(done)
    return checks


def _stamps(segments: Sequence[Segment]) -> list[tuple[int, int]]:
    """Size in bytes and modification time in ns of each file; (0, 0) for a missing one."""
    return [_stamp(path) for path, _, _ in segments]


def _stamp(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _still(before: Measured | None, stamp: tuple[int, int]) -> Measured | None:
    """What is known of a file, if it has not changed."""
    return before if before is not None and (before.size, before.mtime_ns) == stamp else None


def _read(segment: Segment, stamp: tuple[int, int]) -> Measured | AudioError:
    """What reading one utterance gives; `stamp` is of before, so that a change in between shows next time."""
    path, start, end = segment
    try:
        samples, sample_rate = read_samples(path, start, end)
        channels = audio_info(path).channels
        peak = float(np.abs(samples).max())
        if peak == 0:
            return AudioError(path, "digital silence: every sample is 0.")
    except AudioError as error:
        return error
    marks = np.array(landmarks(samples), np.uint64)
    duration = len(samples) / sample_rate
    return Measured(sample_rate, channels, peak, duration, hash_audio(samples, sample_rate), *stamp, marks)


def _same(found: Mapping[Segment, Measured], known: Mapping[Segment, Measured]) -> bool:
    """Whether nothing was read and nothing is gone: what is still known is the same object."""
    return len(found) == len(known) and all(known.get(segment) is check for segment, check in found.items())


def check_inside(corpus: Corpus, rows: Sequence[Mapping[str, Any]], root: Path) -> None:
    """Refuse paths outside `root`: absolute ones, through `..`, and through links."""
    home, real_path = os.path.realpath(root), _real_paths()
    inside = os.path.join(home, "")
    paths = (str(path) for row in rows for path in map(row.get, ("path", *FILES)) if path is not None)
    paths = (path for path in paths if "\0" not in path)  # such a file cannot be read either
    if outside := [path for path in paths if not f"{real_path(path)}{os.sep}".startswith(inside)]:
        raise ValueError(
            f"{corpus.name}: {len(outside)} paths lead out of --root {root}, such as {outside[0]}. "
            f"Correct them, or omit --root to allow them."
        )


def _real_paths() -> Callable[[str], str]:
    """`os.path.realpath` for many files, which resolves each folder once."""
    folders = cache(os.path.realpath)

    def real_path(path: str) -> str:
        folder, name = os.path.split(path)
        if name in ("", ".", "..") or os.path.islink(path):
            return os.path.realpath(path)
        return os.path.join(folders(folder), name)

    return real_path


def _refusal(corpus: Corpus, broken: Sequence[tuple[str, str]], total: int, given: Path | None) -> str:
    first = "\n".join(f"  {path}: {reason}" for path, reason in broken[:5])
    more = f"\n  and {len(broken) - 5} more" if len(broken) > 5 else ""
    advice = "Repair them, or leave strict out to skip them."
    if len(broken) == total:
        advice = "Check their paths." if given is None else f"Check --root {given}."
    return f"{corpus.name}: {len(broken)} of {total} utterances cannot be used. {advice}\n{first}{more}"


def unexpected_counts(corpus: Corpus, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A warning for each column whose counts differ from those of the complete release."""
    for column, expected in corpus.expected.items():
        found = Counter(row.get(column) for row in rows)
        labels = [*expected, *sorted(str(label) for label in found if label not in expected)]
        counts = ((label, found[label], expected.get(label, 0)) for label in labels)
        if wrong := [f"{label} {count} (not {should})" for label, count, should in counts if count != should]:
            yield f"{corpus.name}: {column} counts are not those of the complete corpus: {', '.join(wrong)}."


def _mark_overlaps(rows: Sequence[dict[str, Any]], marks: Sequence[np.ndarray]) -> None:
    """Fill in `overlap`: the id of the first of all utterances that share audio, directly or through others."""
    starts = [row.get("start") or 0.0 for row in rows]
    spans = [(start, start + row["duration"]) for start, row in zip(starts, rows, strict=True)]
    real_path = _real_paths()
    paths, hashes = [real_path(row["path"]) for row in rows], [row["audio_hash"] for row in rows]
    groups = overlaps(paths, spans, hashes, marks)
    sizes = Counter(groups)
    for row, group in zip(rows, groups, strict=True):
        row["overlap"] = str(rows[group]["id"]) if sizes[group] > 1 else ""


def _two_speakers(manifest: Manifest) -> Iterator[str]:
    """A warning if utterances of different speakers share audio."""
    first: dict[str, tuple[str, str]] = {}
    pairs = []
    speakers = manifest.speaker_names
    for name, group in zip(manifest.ids, manifest.column("overlap"), strict=True):
        speaker = speakers[name]
        if group and speaker is not None:
            other, their = first.setdefault(group, (name, speaker))
            if their != speaker:
                pairs.append(f"{other} (speaker {their}) and {name} (speaker {speaker})")
    if pairs:
        more = f" So do {len(pairs) - 1} more pairs." if len(pairs) > 1 else ""
        yield f"{pairs[0]} share audio under two speakers: correct the speakers or the spans.{more}"


def _duplicates(manifest: Manifest) -> Iterator[str]:
    """A warning for each utterance with the same samples as an earlier one."""
    first: dict[str, tuple[str, str | None]] = {}
    columns = (manifest.column(name) for name in ("id", "audio_hash", "emotion"))
    for name, audio, emotion in zip(*columns, strict=True):
        other, label = first.setdefault(audio, (name, emotion))
        if other != name:
            labels = f", labelled {label} and {emotion}" if label != emotion else ""
            yield f"{other} and {name} hold the same audio{labels}."
