"""The `undertone` command: its verbs are the functions of `commands`."""

from __future__ import annotations

import io
import shlex
import sys

import typer

from undertone.commands import ablate, corpora, export, models, parts, runs, store
from undertone.commands.terminal import fail
from undertone.training.interrupt import raise_on_sigterm

INTERRUPTED = 130
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Speech emotion recognition: any Hugging Face upstream, light heads, speaker-independent scores.",
)
for verb in (
    runs.quickstart,
    corpora.prepare,
    store.extract,
    runs.crossval,
    runs.train,
    ablate.ablate,
    ablate.noise_test,
    models.predict,
    models.evaluate,
    models.push,
    export.export,
    runs.report,
    runs.compare,
    runs.rerun,
    corpora.check_split,
    parts.new,
):
    app.command()(verb)  # check_split is check-split
app.command(name="list")(parts.list_names)
app.add_typer(store.stores, name="store")


def main() -> None:
    """Entry point: a user's error ends as one sentence, an interrupted run with how to go on."""
    raise_on_sigterm()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names that a terminal cannot show are spelt out
    try:
        app()
    except SystemExit as end:
        if end.code == INTERRUPTED:  # what typer makes of Ctrl-C, without a word
            command = shlex.join(["undertone", *sys.argv[1:]])
            fail(f"Interrupted. What was finished is kept; go on from there with: {command}", INTERRUPTED)
        raise
    except (ValueError, OSError) as error:
        fail(str(error))


if __name__ == "__main__":
    main()
