"""Inputs of a run other than its settings, recorded at its start: a resumed run must not mix two versions of them."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from undertone.audio.augment import noise_files
from undertone.common.files import read_json, write_json
from undertone.corpora.corpus import Corpus
from undertone.corpora.manifest import Manifest
from undertone.downstream.head import head_class
from undertone.training.config import RunConfig
from undertone.upstream import Upstream

FILE_NAME = "started.json"
PACKAGES = "undertone torch torchaudio transformers datasets accelerate peft evaluate scikit-learn".split()
_NOT_LABELS = ("id", "path", "size", "mtime_ns")


def versions() -> dict[str, str]:
    """Python's version and those of the packages that a run uses."""
    return {"python": sys.version.split()[0], **{name: version(name) for name in PACKAGES}}


def record_start(
    config: RunConfig, upstream: Upstream, corpora: Mapping[str, tuple[Corpus, Path | None]]
) -> dict[str, Any]:
    """The present inputs, as `check_start` compares them.

    `corpora` has `corpus`, and `unlabelled` where there is one, each with its --root. Returns `versions`; `upstream`,
    its fingerprint; `code` {name: hash of the user's file}; `noise`, a hash of names and files; `rows` {corpus: {id:
    hash of labels, segment, speaker and series}}, None of a corpus that cannot be read.
    """
    code = {name: _source(name) for name in (*config.code(), config.corpus)}
    noise = None
    if config.augment.noise_files is not None:
        noise = [[path.name, _hash(path.read_bytes())] for path in noise_files(config.augment.noise_files)]
    return {
        "versions": versions(),
        "upstream": upstream.fingerprint(),
        "code": {name: _hash(path.read_bytes()) for name, path in code.items() if path is not None},
        "noise": None if noise is None else _hash(json.dumps(noise).encode()),
        "rows": {name: _rows(corpus, root) for name, (corpus, root) in corpora.items()},
    }


def check_start(
    folder: Path, found: Mapping[str, Any], config: RunConfig, corpora: Mapping[str, tuple[Corpus, Path | None]]
) -> list[str]:
    """Refuse to continue a run whose upstream, code, labels or deciding packages have changed since its start.

    Missing audio files are allowed: their hidden states may be stored already. Returns sentences for the results: on
    other packages that changed, and on what could not be compared with `found`, the present `record_start`.
    """
    if not (folder / FILE_NAME).is_file():
        write_json(folder / FILE_NAME, found)
        return [
            f"{folder.name} was started by an earlier version, which did not record its inputs (upstream, code, "
            f"labels, packages): it is not known whether they have changed since"
        ]
    before, changes, notes = read_json(folder / FILE_NAME), [], []
    decide = deciding_packages(config)
    for name, now in found["versions"].items():
        was = before["versions"].get(name)
        if str(was).partition("+")[0] == now.partition("+")[0]:  # without the build: a run may continue elsewhere
            continue
        if name in decide:
            changes.append(f"{name} was {was}, is {now}")
        else:
            notes.append(f"resumed with {name} {now}, started with {was}")
    if before["upstream"] != found["upstream"] and not changes:  # whose fingerprint includes versions
        changes.append(f"upstream {config.upstream} has other weights or settings")
    for name, now in found["code"].items():
        if before["code"].get(name) != now:
            changes.append(f"the code of {name} has changed")
    if before["noise"] != found["noise"]:
        changes.append(f"the files of augment.noise_files={config.augment.noise_files} have changed")
    for name, rows in found["rows"].items():
        if rows is None or before["rows"].get(name) is None:
            notes.append(f"{name} could not be read when the run was resumed: the manifest of its start is used")
        else:
            saved = folder / ("manifest" if name == "corpus" else f"{name}/manifest")
            changes += _changed_rows(name, before["rows"][name], rows, *corpora[name], saved)
    if changes:
        raise ValueError(
            f"{folder} was started with other inputs: {'; '.join(changes)}. Its results would mix both. "
            f"Restore what has changed; or start again, with another --out or after deleting {folder}."
        )
    return notes


def deciding_packages(config: RunConfig) -> set[str]:
    """The packages whose version may change the numbers."""
    names = {"undertone", "torch", "torchaudio", "transformers"}
    if any(own.mode == "lora" for own in config.of_streams().values()):
        names.add("peft")
    if any(head_class(part.head).is_fitted for part in config.parts()):
        names.add("scikit-learn")
    return names


def _source(name: str) -> Path | None:
    """The user's Python file that a head, upstream or corpus is named by."""
    if name.endswith(".py"):
        return Path(name)
    module, colon, _ = name.partition(":")
    if not colon or name.startswith("hf:"):
        return None
    spec = importlib.util.find_spec(module)
    return Path(spec.origin) if spec is not None and spec.origin is not None else None


def _rows(corpus: Corpus, root: Path | None) -> dict[str, str] | None:
    try:
        names = ((str(row["id"]).encode("utf-8", "backslashreplace").decode(), row) for row in _listed(corpus, root))
        return {name: _hash(_content(row)) for name, row in names}  # a name that is not UTF-8 would not be JSON
    except (OSError, ValueError):
        return None


def _listed(corpus: Corpus, root: Path | None) -> Iterable[Mapping[str, Any]]:
    root = root or corpus.default_root
    if root is None:
        raise ValueError(f"{corpus.name} needs --root.")
    return corpus.rows(root)


def _content(row: Mapping[str, Any]) -> bytes:
    """Everything of a row except where its file is; of a series and of boxes the content, of a video the size."""
    known = {name: value for name, value in row.items() if name not in _NOT_LABELS and value is not None}
    for name in ("series", "boxes"):
        if row.get(name) is not None:
            known[name] = _hash(Path(row[name]).read_bytes())
    if row.get("video") is not None:
        known["video"] = Path(row["video"]).stat().st_size
    return json.dumps(known, sort_keys=True, default=str).encode()


def _changed_rows(
    name: str, before: Mapping[str, str], now: Mapping[str, str], corpus: Corpus, root: Path | None, saved: Path
) -> list[str]:
    """Sentences on utterances that are new, gone, or have other labels."""
    found = []
    if changed := [row for row in now if row in before and before[row] != now[row]]:
        columns = _changed_columns(set(changed), corpus, root, saved)
        found.append(f"{', '.join(columns) or 'labels'} of {_some(changed)} of the {name} changed")
    if new := [row for row in now if row not in before]:
        found.append(f"new in the {name}: {_some(new)}")
    known = {item.id: item.path for item in Manifest.load(saved)} if before.keys() - now.keys() else {}
    if gone := [row for row in known if row not in now and Path(known[row]).is_file()]:
        found.append(f"gone from the {name}, though the files exist: {_some(gone)}")
    return found


def _changed_columns(ids: set[str], corpus: Corpus, root: Path | None, saved: Path) -> list[str]:
    """The columns in which rows differ from the manifest of the start."""
    known = {item.id: item for item in Manifest.load(saved) if item.id in ids}
    names: list[str] = []
    for row in _listed(corpus, root):
        if (item := known.get(str(row["id"]))) is not None:
            labels = {**row, **row.get("extra", {})}.items()
            names += [name for name, value in labels if name not in _NOT_LABELS and str(item.label(name)) != str(value)]
    return [name for name in dict.fromkeys(names) if name != "extra"]


def _some(ids: Sequence[str]) -> str:
    return f"{len(ids)} utterance{'s' * (len(ids) > 1)} ({', '.join(ids[:3])}{', ...' * (len(ids) > 3)})"


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
