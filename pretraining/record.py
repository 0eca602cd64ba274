"""What a pretrained upstream was trained on, and what that means for the folds of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from undertone.common.files import read_record, write_json
from undertone.corpora.folds import Fold
from undertone.corpora.manifest import Manifest
from undertone.downstream.speaker_hashes import hash_speakers
from undertone.pretraining.data import Speech

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


def check_pretraining(upstream: str, manifest: Manifest, folds: Sequence[Fold], allow_leak: bool) -> list[str]:
    """A sentence where the upstream was trained on the audio of test speakers of some folds; [] where it was not.

    Args:
        upstream: as in the settings of a run; only a folder has a record.
        manifest: of the corpus.
        folds: that will be scored.
        allow_leak: mark instead of refusing, as for folds that share speakers.

    Raises:
        ValueError: it was, without `--transductive` then and without `allow_leak` now.
    """
    path = Path(upstream).expanduser() / FILE_NAME
    if not path.is_file():
        return []
    record = read_record(path, audio_hashes=list, speakers=dict, transductive=bool)
    seen, hashes = set(record["audio_hashes"]), dict(zip(manifest.ids, manifest.column("audio_hash"), strict=True))
    known = {one for name, some in record["speakers"].items() for one in some if name in {*manifest.column("corpus")}}
    by_id = dict(zip(manifest.ids, manifest.column("speaker"), strict=True))
    names = sorted({name for name in by_id.values() if name is not None}) if known else []
    trained = {name for name, key in zip(names, hash_speakers(names, SALT), strict=True) if key in known}
    leaking = [
        fold.name
        for fold in folds
        if any(hashes[one] in seen or by_id[one] in trained for one in fold.test)
    ]  # fmt: skip
    if not leaking:
        return []
    listing = ", ".join(leaking[:5]) + (", ..." if len(leaking) > 5 else "")
    sentence = (
        f"the upstream was pretrained on audio of the test speakers of {len(leaking)} of {len(folds)} folds: {listing}"
    )
    if record["transductive"] or allow_leak:
        return [f"TRANSDUCTIVE: {sentence}."]
    raise ValueError(
        f"{sentence[0].upper()}{sentence[1:]}. Score only the fold that it excludes (undertone train --fold), pretrain "
        f"with --transductive, or give --allow-leak: the scores are then marked."
    )
