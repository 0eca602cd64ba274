"""Files of a corpus -> a manifest of utterances -> folds that never share a speaker."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from undertone.corpora.corpus import Corpus

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
HUGGING_FACE = "hf:"
OWN_DATA = {
    "table": f"FILE{' / '.join(TABLE_SUFFIXES)}",
    "folder": "FOLDER, with a folder per class",
    "manifest_folder": "FOLDER that undertone prepare wrote",
    "audformat_folder": "FOLDER with db.yaml",
    "audio_folder": "FOLDER for unlabelled=, searched with all its subfolders",
    "hf_dataset": f"{HUGGING_FACE}user/name or {HUGGING_FACE}./FOLDER",
    "joined": "A+B, several of any of these",
}
"""Modules of `corpora.own`, for the user's own data, and what to type instead of the module's name."""


def load_corpus(name_or_path: str, options: Mapping[str, Any] | None = None) -> Corpus:
    """Load a corpus by name or path.

    Args:
        name_or_path: a built-in corpus (`emodb`), a table (`calls.csv`, .tsv, .jsonl, .parquet), a folder with a
            subfolder per class, a folder that `undertone prepare` wrote, a Hugging Face dataset (`hf:user/name`,
            `hf:./folder`), a Python file that defines a corpus (`./my_corpus.py`) or `my_pkg.module:MyCorpus`; or
            several of these, joined by +.
        options: keyword arguments of the corpus' constructor; of one of several, as `NAME.option`.

    Raises:
        ValueError: unknown corpus, file or option (the message suggests the nearest), or an invalid option value.
    """
    from undertone.common.discovery import check_options, find_class
    from undertone.corpora.corpus import Corpus

    if name_or_path.startswith("~"):  # which no shell replaces behind the = of key=value
        name_or_path = os.path.expanduser(name_or_path)
    if name_or_path in OWN_DATA:
        raise ValueError(f"{name_or_path!r} is not a corpus by itself. Give {OWN_DATA[name_or_path]} in its place.")
    arguments: tuple[Any, ...] = (Path(name_or_path),)
    if "+" in name_or_path and not os.path.exists(name_or_path):
        options, parts = dict(options or {}), []
        for word in name_or_path.split("+"):
            own = [key for key in options if key.startswith(f"{word}.")]
            parts.append(load_corpus(word, {key.removeprefix(f"{word}."): options.pop(key) for key in own}))
        kind, arguments = "joined", (parts,)
    elif name_or_path.startswith(HUGGING_FACE):
        kind, arguments = "hf_dataset", (name_or_path.removeprefix(HUGGING_FACE),)
    elif Path(name_or_path).suffix.lower() in TABLE_SUFFIXES:
        kind = "table"
    elif os.path.isdir(name_or_path) and name_or_path not in corpus_names():  # also False for an invalid path
        known = {"manifest.arrow": "manifest_folder", "db.yaml": "audformat_folder"}
        kind = next((kind for file, kind in known.items() if (Path(name_or_path) / file).is_file()), "folder")
    elif _is_missing(name_or_path):
        raise ValueError(
            f"{name_or_path}: no such file or folder. Correct the path, or give the name of a corpus: "
            f"`undertone list corpora`."
        )
    else:
        kind, arguments = name_or_path, ()
    cls: Any = find_class(kind, "undertone.corpora.own" if kind in OWN_DATA else "undertone.corpora", Corpus)
    check_options("Corpus", name_or_path, cls, options or {})
    corpus: Corpus = cls(*arguments, **(options or {}))
    return corpus


def _is_missing(text: str) -> bool:
    """Whether it is written as a path, of which there is nothing; a Python file says so itself."""
    is_path = "/" in text or "\\" in text or text.startswith((".", "~"))
    return is_path and not text.endswith(".py") and not os.path.exists(text)


def corpus_names() -> list[str]:
    """The built-in corpora."""
    from undertone.common.discovery import available
    from undertone.corpora.corpus import Corpus

    return [name for name in available("undertone.corpora", Corpus) if name not in OWN_DATA]
