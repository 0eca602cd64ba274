"""What a pretrained upstream was trained on, and what that means for the folds of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from undertone.common.files import read_record, write_json
from undertone.corpora.folds import Fold
from undertone.corpora.manifest import Manifest
from undertone.downstream.speaker_hashes import hash_speakers
from undertone.pretraining.data import Speech
from undertone.upstream.load import HUB_ID, folder_of

FILE_NAME = "pretraining.json"
SALT = "pretraining"


def write_pretraining(folder: Path, speech: Speech, told: Mapping[str, Any]) -> None:
    """Write FOLDER/pretraining.json: audio by its hash, speakers by hashes that reveal no name, and what is `told`."""
    speakers = {
        name: hash_speakers(
            sorted({item.speaker for item in speech.utterances if item.corpus == name and item.speaker is not None}),
            SALT,
        )
        for name in speech.corpora
    }
    audio = sorted(item.audio_hash for item in speech.utterances)
    write_json(folder / FILE_NAME, {**told, "notes": list(speech.notes), "speakers": speakers, "audio_hashes": audio})


def check_pretraining(
    upstream: str, revision: str | None, manifest: Manifest, folds: Sequence[Fold], allow_leak: bool
) -> list[str]:
    """A sentence where the upstream was trained on the audio of test speakers of some folds; [] where it was not.

    Args:
        upstream: a folder or Hub id; others have no record.
        revision: of a Hub id.
        manifest: of the corpus.
        folds: that will be scored.
        allow_leak: mark instead of refusing, as for folds that share speakers.

    Raises:
        ValueError: it was, without `--transductive` then and without `allow_leak` now.
    """
    path = _record_of(upstream, revision)
    if path is None:
        return []
    record = read_record(path, audio_hashes=list, speakers=dict, transductive=bool)
    columns = (manifest.column(name) for name in ("audio_hash", "corpus", "speaker"))
    rows = dict(zip(manifest.ids, zip(*columns, strict=True), strict=True))
    audio, trained = set(record["audio_hashes"]), _trained_speakers(record["speakers"], rows.values())
    leaking = [
        fold.name
        for fold in folds
        if any(rows[one][0] in audio or rows[one][1:] in trained for one in fold.test)
    ]  # fmt: skip
    if not leaking:
        return []
    listing = ", ".join(leaking[:5]) + (", ..." if len(leaking) > 5 else "")
    sentence = (
        f"upstream {Path(upstream).name} was pretrained on audio of the test speakers of {len(leaking)} of "
        f"{len(folds)} folds: {listing}"
    )
    if record["transductive"] or allow_leak:
        return [f"TRANSDUCTIVE: {sentence}."]
    raise ValueError(
        f"{sentence[0].upper()}{sentence[1:]}. Score only the fold that it excludes (undertone train --fold), pretrain "
        f"with --transductive, or give --allow-leak: the scores are then marked."
    )


def _record_of(upstream: str, revision: str | None) -> Path | None:
    """The record beside an upstream's weights, from the Hub too; None where there is none."""
    path = Path(folder_of(upstream)) / FILE_NAME
    if path.parent.is_dir():
        return path if path.is_file() else None
    if not HUB_ID.fullmatch(upstream):
        return None
    from transformers.utils.hub import cached_file

    found = cached_file(
        upstream,
        FILE_NAME,
        revision=revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,  # the upstream has been read by then
    )
    return Path(found) if found else None


def _trained_speakers(hashes: Mapping[str, Sequence[str]], rows: Iterable[tuple[Any, ...]]) -> set[tuple[str, str]]:
    """The (corpus, speaker) of (audio hash, corpus, speaker) rows whose hash is known of a corpus of that name."""
    found = set()
    named = {(corpus, speaker) for _, corpus, speaker in rows if speaker is not None}
    for name, known in hashes.items():
        speakers = sorted(speaker for corpus, speaker in named if corpus == name)
        found |= {(name, one) for one, key in zip(speakers, hash_speakers(speakers, SALT), strict=True) if key in known}
    return found
