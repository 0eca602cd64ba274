"""What a refusal may be: a ValueError or an OSError that a line of ours raised, soon."""

from __future__ import annotations

import ast
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

PACKAGE = Path(__file__).resolve().parents[2]
SECONDS = 30.0  # an input of a few kilobytes that takes longer hangs, on a busy machine too


class NotRefused(AssertionError):
    """An input led to something other than a result or a sentence of ours."""


class _TookTooLong(BaseException):
    """Raised in the middle of whatever runs; no `except Exception` on the way catches it."""


@cache
def _raising_lines(path: Path) -> frozenset[int]:
    """The first line of every `raise` statement of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.lineno for node in ast.walk(tree) if isinstance(node, ast.Raise))


def raised_by_us(error: BaseException) -> bool:
    """Whether the innermost frame of the traceback stands at a `raise` of the package, not of its tests.

    An error that a C function throws has our frame as the innermost one too; but that stands at a call.
    """
    *_, last = traceback.extract_tb(error.__traceback__)
    path = Path(last.filename).resolve()
    ours = path.is_file() and path.is_relative_to(PACKAGE) and not path.is_relative_to(PACKAGE / "tests")
    return ours and last.lineno in _raising_lines(path)


@contextmanager
def time_limit(seconds: float = SECONDS) -> Iterator[None]:
    """End the block with `NotRefused` when it takes longer; a loop inside a C function ends only when it returns."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _TookTooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except _TookTooLong:
        raise NotRefused(f"still running after {seconds} s") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def attempt(function: Callable[[], Any]) -> str | None:
    """Call `function`: None if it returned, the sentence if it was refused.

    Raises:
        NotRefused: another exception, one that is not raised by a line of ours, an empty message, or a hang.
    """
    try:
        with time_limit():
            function()
    except (ValueError, OSError) as error:
        if not raised_by_us(error) or len(str(error)) < 10:
            raise NotRefused(f"{type(error).__name__} from elsewhere: {error}") from error
        return str(error)
    except NotRefused:
        raise
    except Exception as error:
        raise NotRefused(f"{type(error).__name__}: {error}") from error
    return None
