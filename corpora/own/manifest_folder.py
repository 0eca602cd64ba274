"""A manifest that `undertone prepare --out FOLDER` wrote, used in place of its corpus.

Files that have changed since are read again. If it is of one built-in corpus, that corpus' protocols, licence and
citation apply.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from undertone.corpora.corpus import Corpus
from undertone.corpora.folds import Fold
from undertone.corpora.manifest import COLUMNS, Manifest
from undertone.corpora.measured import MEASURED_FILE, Measured, Segment, load_measured

MEASURED = ("duration", "audio_hash", "size", "mtime_ns", "overlap")  # `prepare` measures these again


class ManifestFolder(Corpus):
    """A prepared manifest, used in place of its corpus."""

    licence = "see its corpora"
    hub_licence = "unknown"  # each of its corpora is asked
    citation = "see its corpora"
    confined = True

    def __init__(self, path: Path) -> None:
        from undertone.corpora import corpus_names, load_corpus

        self.path, self.manifest = path, Manifest.load(path)
        corpora = sorted(set(self.manifest.column("corpus")))
        self.name = "+".join(corpora)
        self.url = str(path)
        self.default_root = path
        self.source = load_corpus(self.name) if self.name in corpus_names() else None
        if self.source is not None:
            self.licence, self.citation, self.url = self.source.licence, self.source.citation, self.source.url
            self.hub_licence = self.source.hub_licence
            self.default_protocol, self.own_protocols = self.source.default_protocol, self.source.own_protocols

    def rows(self, root: Path) -> Iterator[dict[str, Any]]:
        """See `Corpus.rows`; the files must be where they were when the manifest was made."""
        names = [name for name in COLUMNS if name not in MEASURED]
        for values in zip(*(self.manifest.column(name) for name in names), strict=True):
            yield dict(zip(names, values, strict=True))

    def measured(self) -> Mapping[Segment, Measured]:
        return load_measured(self.path / MEASURED_FILE)

    def folds(
        self, manifest: Manifest, protocol: str | None = None, num_folds: int | None = None, seed: int = 0
    ) -> list[Fold]:
        if self.source is not None:
            return self.source.folds(manifest, protocol, num_folds, seed)
        return super().folds(manifest, protocol, num_folds, seed)
