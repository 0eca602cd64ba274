"""The command describe: what a corpus is made of, as a table and a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from undertone.commands.flags import CorpusArg
from undertone.commands.terminal import CorpusOptions, Root, say, show


def describe(
    corpus: CorpusArg,
    options: CorpusOptions = None,
    root: Root = None,
    out: Annotated[Path | None, typer.Option(help="folder to write the page to")] = None,
) -> None:
    """Read every file of a corpus; print what it is made of and write a page with plots."""
    from undertone.common.console import Display
    from undertone.corpora import load_corpus
    from undertone.corpora.describe import describe as describing
    from undertone.corpora.describe import measure_signals, rows
    from undertone.corpora.prepare import prepare_corpus
    from undertone.report.describe_page import write_description
    from undertone.training.settings import corpus_options

    display = Display()
    source = load_corpus(corpus, corpus_options(options or []))
    prepared = prepare_corpus(source, root, display)
    with display.bar(f"measuring {source.name}") as advance:
        signals = measure_signals(prepared.manifest, lambda done, total: advance(done, total, ""))
    facts = describing(prepared, signals)
    show(([source.name], ["What", "Value"], rows(facts)))
    for line in [*facts["notes"], *(f"skipped {path}: {reason}" for path, reason in prepared.broken)]:
        say(f"note: {line}")
    folder = out or Path("runs") / f"{Path(source.name).name}-described"
    say(f"page {write_description(source.name, facts, signals, folder)}")
