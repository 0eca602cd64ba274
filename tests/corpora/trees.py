"""Short clips under a corpus' real file names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from undertone.corpora import load_corpus
from undertone.corpora.manifest import Utterance
from undertone.corpora.prepare import Prepared, prepare


def clip(path: Path, seconds: float = 0.1, **options: Any) -> Path:
    """0.1 s of noise at 16 kHz that no other path has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(list(str(path).encode())).uniform(-0.3, 0.3, round(seconds * 16000))
    soundfile.write(path, noise, 16000, **options)
    return path


def prepared(name: str, root: Path, **options: Any) -> Prepared:
    return prepare(load_corpus(name, options), root)


def facts(found: Prepared, *columns: str) -> dict[str, tuple[Any, ...]]:
    """{id: these columns} of the manifest; a name that is no column is an extra one."""
    fields = set(Utterance.__dataclass_fields__)
    return {
        one.id: tuple(getattr(one, name) if name in fields else one.extra.get(name) for name in columns)
        for one in found.manifest
    }
