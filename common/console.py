"""Progress on the console: lines, and bars with the remaining time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}

Advance = Callable[[float, float, str], None]  # done, total, note


def is_first_process() -> bool:
    """Whether this process prints, of those that `accelerate launch` or torchrun started together."""
    return os.environ.get("RANK", "0") == "0"


def printable(text: str) -> str:
    """The text with control characters escaped: a file name must not control the terminal."""
    return text.translate(_CONTROL)


class Display:
    """Lines and progress bars on a console; silent when `quiet`, and in all but the first of several processes."""

    def __init__(self, quiet: bool = False) -> None:
        hidden = quiet or not is_first_process()
        self.console = Console(stderr=True, quiet=hidden, markup=False, highlight=False, emoji=False)

    def say(self, text: str) -> None:
        """Print one line without wrapping or markup."""
        self.console.print(printable(text), soft_wrap=True)

    @contextmanager
    def bar(self, title: str) -> Iterator[Advance]:
        """A progress bar; call what it yields with the amount done, the total and a note.

        Where the console is no terminal (a log file), one line at the end replaces the bar.
        """
        if not self.console.is_terminal:
            line = ""

            def remember(done: float, total: float, note: str) -> None:
                nonlocal line
                line = f"{title}: {int(done)}/{int(total)} {note}".rstrip()

            yield remember
            if line:
                self.say(line)
            return
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task(printable(title), total=None, note="")
            yield lambda done, total, note: progress.update(
                task, completed=int(done), total=int(total), note=printable(note)
            )
