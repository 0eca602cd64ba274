"""The `undertone` command: its verbs are the functions of `commands`."""

from __future__ import annotations

import atexit
import errno
import gc
import io
import os
import shlex
import sys
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from undertone import __version__
from undertone.commands import (
    ablate,
    bench,
    corpora,
    describe,
    listen,
    listing,
    models,
    new,
    predict,
    pretrain,
    runs,
    store,
)
from undertone.commands.examples import epilog
from undertone.commands.terminal import fail
from undertone.common.files import full_disk
from undertone.common.interrupt import raise_on_sigterm

INTERRUPTED = 130
HERE = Path(__file__).parent
OUT_OF_MEMORY = ("allocate memory", "out of memory", "not enough memory", "bad_alloc", "can't start new thread")
ABOUT = "Speech emotion recognition: any Hugging Face upstream, light heads, speaker-independent scores."
app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=ABOUT,
)
PANELS = {
    "Data": (corpora.prepare, describe.describe, corpora.check_split),
    "Train": (
        runs.quickstart,
        store.extract,
        pretrain.pretrain,
        runs.crossval,
        runs.train,
        runs.crosscorpus,
        ablate.ablate,
        runs.rerun,
    ),
    "Use": (predict.predict, listen.listen, models.evaluate, models.explain, models.demo),
    "Publish": (models.push, models.export),
    "Inspect": (runs.report, runs.compare, runs.robustness, bench.bench, listing.list_names),
    "Extend": (new.new,),
}
for panel, verbs in PANELS.items():
    for verb in verbs:
        name = "list" if verb is listing.list_names else verb.__name__.replace("_", "-")
        app.command(name, rich_help_panel=panel, epilog=epilog(name))(verb)
app.add_typer(store.stores, name="store", rich_help_panel="Data", epilog=epilog("store"))
ClickException: type[Exception] = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")


def _show_version(asked: bool) -> None:
    if asked:
        print(f"undertone {__version__}")
        raise typer.Exit


@app.callback(help=ABOUT)
def _options(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_show_version, is_eager=True, help="show the version")
    ] = False,
) -> None:
    pass


@cache
def _command() -> Callable[..., Any]:
    """What typer makes of `app`, once: it takes 60 ms."""
    return typer.main.get_command(app)


def set_up_process() -> None:
    """What must be set before torch is imported (docs/speed.md)."""
    # Threads that wait for each other sleep instead of spinning, which on cores with other work takes several times as
    # long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # The imports make objects that stay; Python would look through them for garbage again and again, and once more at
    # its end, for a third of a short command's time.
    gc.set_threshold(20_000)
    atexit.register(gc.freeze)


def main() -> None:
    """Entry point: every failure ends as one sentence, an interrupted run with the command that resumes it.

    With the environment variable UNDERTONE_TRACEBACK set, unexpected errors keep their traceback.
    """
    raise_on_sigterm()
    set_up_process()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # for names that the terminal cannot show
    if empty := [word for word in sys.argv[1:] if not word or (word.startswith("--") and word.endswith("="))]:
        fail(
            f"The command has an empty argument{f' after {empty[0]}' if empty[0] else ''}, perhaps an unset shell "
            f"variable. Give it a value, or remove it with its option."
        )
    try:
        status = _command()(prog_name="undertone", standalone_mode=False)
    except ClickException as error:  # wrong use of the command line itself
        _wrong_use(error)
    except typer.Abort:
        fail("Stopped.", 1)
    except Exception as error:
        expected = isinstance(error, ValueError | OSError)
        if not expected and os.environ.get("UNDERTONE_TRACEBACK"):
            raise
        fail(sentence(error), 2 if expected else 1)
    if status == INTERRUPTED:  # typer's silent end after Ctrl-C
        command = shlex.join(["undertone", *sys.argv[1:]])
        fail(f"Interrupted. Finished work is kept; resume with: {command}", INTERRUPTED)
    if isinstance(status, int):
        sys.exit(status)


def _wrong_use(error: Any) -> NoReturn:
    """As all errors: one sentence; the help has been shown where there were no words at all."""
    if type(error).__name__ == "NoArgsIsHelpError":
        sys.exit(2)
    context = getattr(error, "ctx", None)
    see = f" {context.command_path} --help shows what there is." if context is not None else ""
    said = " ".join(error.format_message().split()).replace("Value error, ", "")
    fail(f"{said}{'' if said.endswith(('.', '?', '!')) else '.'}{see}")


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
