"""Corpora: the files of a corpus -> a manifest of utterances -> folds that never share a speaker."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from undertone.corpora.corpus import Corpus

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


def load_corpus(name_or_path: str) -> Corpus:
    """The corpus that a name stands for.

    Args:
        name_or_path: a module here (`emodb`), a table of your own (`calls.csv`, .tsv, .jsonl, .parquet),
            a Python file that defines a corpus (`./my_corpus.py`) or `my_pkg.module:MyCorpus`.

    Raises:
        ValueError: there is no such corpus or file; names the nearest.
    """
    from undertone.corpora.corpus import Corpus
    from undertone.corpora.table import Table
    from undertone.discovery import find_class

    if Path(name_or_path).suffix.lower() in TABLE_SUFFIXES:
        return Table(Path(name_or_path))
    if name_or_path == "table":
        raise ValueError(f"Give the table's path in place of 'table': a file that ends in {', '.join(TABLE_SUFFIXES)}.")
    return find_class(name_or_path, "undertone.corpora", Corpus)()  # type: ignore[type-abstract]
