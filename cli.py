"""The `undertone` command: its verbs are the functions of `commands`."""

from __future__ import annotations

import errno
import io
import os
import shlex
import sys
import traceback
from pathlib import Path

import typer

from undertone.commands import ablate, corpora, describe, listen, listing, models, new, predict, runs, store
from undertone.commands.terminal import fail
from undertone.common.files import full_disk
from undertone.common.interrupt import raise_on_sigterm

INTERRUPTED = 130
CLOSED_PIPE = 141
HERE = Path(__file__).parent
OUT_OF_MEMORY = ("allocate memory", "out of memory", "not enough memory", "bad_alloc", "can't start new thread")
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Speech emotion recognition: any Hugging Face upstream, light heads, speaker-independent scores.",
)
for verb in (
    runs.quickstart,
    corpora.prepare,
    describe.describe,
    store.extract,
    runs.crossval,
    runs.train,
    runs.crosscorpus,
    ablate.ablate,
    predict.predict,
    listen.listen,
    models.evaluate,
    models.explain,
    models.demo,
    models.push,
    models.export,
    runs.report,
    runs.robustness,
    runs.compare,
    runs.rerun,
    corpora.check_split,
    new.new,
):
    app.command()(verb)  # check_split is check-split
app.command(name="list")(listing.list_names)
app.add_typer(store.stores, name="store")


def main() -> None:
    """Entry point: every failure ends as one sentence, an interrupted run with the command that resumes it.

    With the environment variable UNDERTONE_TRACEBACK set, unexpected errors keep their traceback.
    """
    raise_on_sigterm()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # for names that the terminal cannot show
    if empty := [word for word in sys.argv[1:] if not word or (word.startswith("--") and word.endswith("="))]:
        fail(
            f"The command has an empty argument{f' after {empty[0]}' if empty[0] else ''}, perhaps an unset shell "
            f"variable. Give it a value, or remove it with its option."
        )
    try:
        app()
    except SystemExit as end:
        if end.code == INTERRUPTED:  # typer's silent end after Ctrl-C
            command = shlex.join(["undertone", *sys.argv[1:]])
            fail(f"Interrupted. Finished work is kept; resume with: {command}", INTERRUPTED)
        raise
    except BrokenPipeError:  # whoever read the output has seen enough: `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python writes at its end
        sys.exit(CLOSED_PIPE)
    except Exception as error:
        expected = isinstance(error, ValueError | OSError)
        if not expected and os.environ.get("UNDERTONE_TRACEBACK"):
            raise
        fail(sentence(error), 2 if expected else 1)


def sentence(error: Exception) -> str:
    """The message for an error: what happened, and what to do."""
    if isinstance(error, ValueError):
        return str(error)
    said = " ".join(str(error).split())
    number = error.errno if isinstance(error, OSError) else None
    if advice := full_disk(error):
        where = f" {error.filename}" if isinstance(error, OSError) and error.filename else ""
        return said if said.startswith("Cannot write") else f"Cannot write{where}: {advice}"
    if isinstance(error, MemoryError) or number == errno.ENOMEM or any(word in said for word in OUT_OF_MEMORY):
        return (
            f"There is not enough memory: {said or 'an array did not fit'}. Raise the limit (ulimit, container, job), "
            f"or use less: a smaller batch_size, a smaller upstream, shorter files."
        )
    if isinstance(error, OSError):
        return str(error)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(HERE)]
    place = f"{Path(frames[-1].filename).relative_to(HERE)}:{frames[-1].lineno}"  # `main` itself is one
    return (
        f"Unexpected error: {type(error).__name__}: {said} ({place}). If it is about a file of yours, the run or the "
        f"store, that file is damaged: restore or remove it and run again. Otherwise please report it with the "
        f"traceback that UNDERTONE_TRACEBACK=1 shows."
    )


if __name__ == "__main__":
    main()
