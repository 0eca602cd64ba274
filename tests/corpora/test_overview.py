"""docs/corpora.md is what the corpora's files say."""

from __future__ import annotations

from pathlib import Path

import pytest

from undertone.corpora import corpus_names, load_corpus
from undertone.corpora.overview import markdown

PAGE = Path(__file__).resolve().parents[2] / "docs" / "corpora.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text("utf-8") == markdown(), "python -m undertone.corpora.overview > docs/corpora.md"


@pytest.mark.parametrize("name", [name for name in corpus_names() if name != "synthetic"])
def test_a_language_and_pitfalls_are_named(name: str) -> None:
    corpus = load_corpus(name)
    assert corpus.language and corpus.pitfalls
