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
def test_counts_agree_with_each_other(name: str) -> None:
    corpus = load_corpus(name)
    assert corpus.language and corpus.pitfalls
    emotions = corpus.expected.get("emotion", {})
    assert corpus.num_classes is None or len(emotions) in (0, corpus.num_classes)
    if not corpus.variant and emotions:
        assert sum(emotions.values()) == corpus.num_clips
    assert len(corpus.expected.get("speaker", range(corpus.num_speakers or 0))) == (corpus.num_speakers or 0)
