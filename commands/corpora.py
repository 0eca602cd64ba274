"""Commands on corpora: prepare, check-split."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from undertone.commands.flags import CorpusArg
from undertone.commands.terminal import CorpusOptions, Root, say, show


def prepare(
    corpus: CorpusArg,
    options: CorpusOptions = None,
    root: Root = None,
    out: Annotated[Path | None, typer.Option(help="folder to write the manifest to")] = None,
    strict: Annotated[bool, typer.Option(help="stop at a broken file")] = False,
) -> None:
    """Check every file of a corpus, write its manifest and print a summary."""
    from undertone.common.console import Display
    from undertone.corpora import load_corpus
    from undertone.corpora.prepare import prepare_corpus, summary
    from undertone.training.settings import corpus_options

    source = load_corpus(corpus, corpus_options(options or []))
    prepared = prepare_corpus(source, root, Display(), strict=strict)
    show(([source.name], ["What", "Value"], [list(row) for row in summary(prepared)]))
    for line in [*prepared.warnings, *(f"skipped {path}: {reason}" for path, reason in prepared.broken)]:
        say(f"note: {line}")
    folder = out or Path("runs") / f"{Path(source.name).name}-manifest"
    prepared.save(folder)
    say(f"manifest {folder} ({len(prepared.manifest)} utterances)")


def check_split(
    train: Annotated[str, typer.Argument(help="a table or a prepared manifest")],
    test: Annotated[str, typer.Argument(help="another one")],
) -> None:
    """Find speakers, audio and sentences that two sides share; exit status 1 if there are any."""
    from undertone.common.console import Display
    from undertone.corpora import check_split as checking

    display = Display()

    def read(path: str) -> Any:
        with display.bar(f"checking {path}") as advance:
            return checking.read_side(path, lambda done, total: advance(done, total, ""))

    shared, notes = checking.check_split(read(train), read(test))
    for line in [*(f"note: {note}" for note in notes), *shared]:
        say(str(line))
    if shared:
        sys.exit(1)
    say("Nothing is shared: no speaker, no audio, no sentence.")
