"""What there is by name: corpora, upstreams, heads and systems, each with the first line of its documentation."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from undertone.common.discovery import available, find_class, nearest
from undertone.corpora import OWN_DATA, corpus_names, load_corpus
from undertone.corpora.corpus import Corpus
from undertone.downstream.head import Head
from undertone.recipes import systems
from undertone.upstream.base import Upstream
from undertone.upstream.hf.families import FAMILIES
from undertone.upstream.load import ACOUSTIC

HEADS = "undertone.downstream.heads"


def listing(kind: str) -> list[tuple[str, str]]:
    """(name, what it is) of everything of a kind.

    Raises:
        ValueError: kind is none of corpora, upstreams, heads and systems.
    """
    listings = {"corpora": _corpora, "upstreams": _upstreams, "heads": _heads, "systems": _systems}
    if kind not in listings:
        raise ValueError(f"Cannot list {kind!r}.{nearest(kind, listings)}")
    return listings[kind]()


def _first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").split("\n")[0]


def _corpora() -> list[tuple[str, str]]:
    corpora = [load_corpus(name) for name in corpus_names()]
    named = [(corpus.name, f"{_first_line(type(corpus))} {corpus.licence}") for corpus in corpora]
    own = [(what, find_class(kind, "undertone.corpora.own", Corpus)) for kind, what in OWN_DATA.items()]  # type: ignore[type-abstract]
    return named + [(what, _first_line(cls)) for what, cls in own]


def _upstreams() -> list[tuple[str, str]]:
    names = available(ACOUSTIC, Upstream)
    classes = {name: find_class(name, ACOUSTIC, Upstream) for name in names}  # type: ignore[type-abstract]
    hub = ("Hub id or folder", f"a Hugging Face model of the families {', '.join(sorted(FAMILIES))}")
    return [*((name, _first_line(cls)) for name, cls in classes.items()), hub]


def _heads() -> list[tuple[str, str]]:
    return [(name, _first_line(find_class(name, HEADS, Head))) for name in available(HEADS, Head)]


def _systems() -> list[tuple[str, str]]:
    names = systems.available_systems()
    return [(name, _first_line(importlib.import_module(f"{systems.__name__}.{name}"))) for name in names]
