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
    to_dataset: Annotated[Path | None, typer.Option(help="also write a Hugging Face dataset: a new folder")] = None,
    embed: Annotated[bool, typer.Option(help="put the audio into it, instead of paths")] = False,
    push_dataset: Annotated[
        str | None, typer.Option(help="push it, audio embedded, to user/name on the Hub, if the licence allows that")
    ] = None,
    to_audformat: Annotated[Path | None, typer.Option(help="also write an audformat database: a new folder")] = None,
) -> None:
    """Check every file of a corpus, write its manifest and print a summary; where asked, write it in other formats."""
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
    if to_dataset is not None or push_dataset is not None:
        _write_dataset(source, prepared.manifest, to_dataset, embed, push_dataset)
    if to_audformat is not None:
        from undertone.corpora.to_audformat import write_audformat

        for line in write_audformat(source, prepared.manifest, to_audformat):
            say(f"note: {line}")
        say(f"audformat {to_audformat}")


def _write_dataset(source: Any, manifest: Any, folder: Path | None, embed: bool, repo_id: str | None) -> None:
    from tempfile import TemporaryDirectory

    from undertone.corpora.to_dataset import check_published, push_dataset, write_dataset

    if repo_id is not None:
        check_published(source, manifest)
    with TemporaryDirectory() as beside:
        target = folder or Path(beside) / "dataset"
        for line in write_dataset(source, manifest, target, embed or repo_id is not None):
            say(f"note: {line}")
        if folder is not None:
            say(f"dataset {folder}")
        if repo_id is not None:
            say(f"pushed {push_dataset(target, repo_id)}")


def check_split(
    files: Annotated[
        list[str],
        typer.Argument(
            help="TRAIN TEST or TRAIN DEV TEST: tables, prepared manifests, split files of EmoBox, s3prl, SpeechBrain; "
            "or one file with a column split; or a folder with a folder per fold"
        ),
    ],
    corpus: Annotated[str | None, typer.Option(help="look the files up in this corpus: its speakers and audio")] = None,
    root: Root = None,
) -> None:
    """Find speakers, audio and sentences that parts of a split share; exit status 1 if there are any."""
    from undertone.common.console import Display
    from undertone.corpora import check_split as checking
    from undertone.corpora.own.split_files import read_folds

    with Display().bar(f"checking {', '.join(files)}") as advance:
        folds, notes = read_folds(files, corpus, root, lambda done, total: advance(done, total, ""))
    show(([], *checking.balance_table(folds)))
    lines, found = [f"note: {note}" for note in notes], False
    for name, parts in folds.items():
        shared, doubts = checking.check_parts(parts)
        before = f"{name}: " if len(folds) > 1 else ""
        lines += [f"{before}note: {note}" for note in doubts] + [f"{before}{one}" for one in shared]
        found = found or bool(shared)
    for line in lines:
        say(line)
    if print_ := checking.fingerprint(folds):
        say(f"Split fingerprint {print_}, of the audio in each part of the folds.")
    if found:
        sys.exit(1)
    say("Nothing is shared: no speaker, no audio, no sentence.")
