"""What the cells of user data mean: the same rules for tables, folders and Hugging Face datasets.

- A blank, `nan`, `None`, `NA`, `N/A`, `null` or `-`, in any case, is a missing label.
- Labels and speakers that differ only in case, blanks or Unicode form are merged; the most frequent spelling is kept.
- A float without a fraction, which pandas makes of an integer column with gaps, is an integer: speaker `3.0` is `3`.
- A user-defined column of numbers is a regression target; in text formats (CSV, TSV) numbers are recognised, also with
  a decimal comma; `01` is a code and remains text.
- A list, an object or bytes is not a label.

Notes report everything that is changed or left out.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any

from undertone.corpora.manifest import DIMENSIONS, sum_votes

GENDERS = {"female": ("f", "female", "w", "woman"), "male": ("m", "male", "man")}
SPLITS = {
    "train": ("train", "training"),
    "dev": ("dev", "development", "val", "valid", "validation"),
    "test": ("test", "testing"),
}
MISSING = ("", "-", "--", "nan", "none", "na", "n/a", "#n/a", "<na>", "null")
"""Words, in lower case, that mean a missing label."""

_CLASSES = ("speaker", "emotion", "session", "corpus")
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,307})([.,]\d{1,307})?([eE][+-]?\d{1,3})?")
_WHOLE = re.compile(r"(-?\d+)\.0+")
_MOST = 5  # examples in a sentence


class Labels:
    """Reads the label columns of one source.

    Attributes:
        notes: what was changed or left out so far.
    """

    def __init__(self, source: str, numbers: Sequence[int], typed: bool) -> None:
        """Describe the source.

        Args:
            source: its name, for messages.
            numbers: number of each row, for messages.
            typed: whether the format distinguishes numbers from text.
        """
        self.source, self.numbers, self.typed = source, numbers, typed
        self.notes: list[str] = []

    def read(self, column: str, cells: Sequence[Any]) -> list[Any]:
        """The values of a field of `Utterance`: text, a number from 0 to 1 for a dimension, or None if missing.

        Raises:
            ValueError: an invalid cell; the message names its row.
        """
        if all(cell is None for cell in cells):
            return list(cells)
        for number, cell in zip(self.numbers, cells, strict=True):
            if _is_nested(cell):
                raise ValueError(
                    f"{self.source}, row {number}: {column} is {str(cell)[:80]!r}, a {type(cell).__name__}; it must be "
                    f"one word or number. Keep one label per row; several raters' labels go into a table's votes."
                )
        if column == "text":
            return [_text(cell) for cell in cells]
        present = self._without_missing(column, cells)
        if column in DIMENSIONS:
            return [self._dimension(column, *cell) for cell in zip(self.numbers, present, strict=True)]
        texts = _whole([_text(cell) for cell in present])
        if column in ("gender", "split"):
            return self._named(column, texts, GENDERS if column == "gender" else SPLITS)
        if column == "emotion":
            self._refuse_decimals(column, texts)
        return self._one_spelling(column, texts)

    def emotions(
        self, cells: Sequence[Any], votes: Sequence[Any]
    ) -> tuple[list[str | None], list[dict[str, float] | None]]:
        """The columns `emotion` and `votes`, with the same spelling of labels."""
        emotions = self.read("emotion", cells)
        pairs = [self._votes(number, cell) for number, cell in zip(self.numbers, votes, strict=True)]
        spelling = _spelling([*emotions, *(label for row in pairs for label, _ in row or ())])
        counts = [None if row is None else sum_votes(row, spelling) for row in pairs]
        rows = zip(self.numbers, pairs, counts, strict=True)
        if twice := [number for number, row, count in rows if row and count and len(count) < len(row)]:
            self.notes.append(
                f"{self.source}: votes have a label more than once in {len(twice)} rows, the first is row {twice[0]}: "
                f"its counts are added up."
            )
        return [None if label is None else spelling[label] for label in emotions], counts

    def own(self, column: str, cells: Sequence[Any]) -> list[Any] | None:
        """The values of a user-defined column: all numbers, or text; None if it holds no labels.

        Raises:
            ValueError: an infinite number; the message names its row.
        """
        if kinds := sorted({type(cell).__name__ for cell in cells if _is_nested(cell)}):
            self.leave_out(column, kinds[0])
            return None
        values = self._without_missing(column, cells)
        values = [float(value) if isinstance(value, Decimal) else value for value in values]
        numeric = self._numbers(column, values)
        if numeric is not None:
            return numeric
        if all(value is None or isinstance(value, bool) for value in values):
            return values
        return self._one_spelling(column, [_text(value) for value in values])

    def leave_out(self, column: str, kind: str) -> None:
        """Note that a user-defined column is left out because of its type."""
        self.notes.append(f"{self.source}: the column {column!r} holds {kind} values, which are no labels: left out.")

    def _without_missing(self, column: str, cells: Iterable[Any]) -> list[Any]:
        values, words = [], Counter[str]()
        for cell in cells:
            value = _one_blank(cell) if isinstance(cell, str) else cell
            if isinstance(value, str) and value.casefold() in MISSING:
                words[value] += bool(value)
                value = None
            values.append(None if isinstance(value, float) and math.isnan(value) else value)
        if words := +words:
            said = ", ".join(f"{word!r} ({count})" for word, count in sorted(words.items()))
            self.notes.append(f"{self.source}: {column} {said} is read as missing.")
        return values

    def _dimension(self, column: str, number: int, value: Any) -> float | None:
        if value is None:
            return None
        try:
            found = float(value.replace(",", ".") if isinstance(value, str) and "." not in value else value)
        except (TypeError, ValueError, OverflowError):
            found = math.nan
        if not math.isfinite(found) or isinstance(value, bool):
            raise ValueError(
                f"{self.source}, row {number}: {column} is {value!r}; it must be a number from 0 to 1, or empty."
            )
        if not 0 <= found <= 1:
            raise ValueError(
                f"{self.source}, row {number}: {column} is {found:g}; it must be from 0 to 1. Rescale the whole "
                f"column: (value - lowest) / (highest - lowest), so (value - 1) / 4 for ratings from 1 to 5."
            )
        return found

    def _named(
        self, column: str, texts: Sequence[str | None], names: Mapping[str, tuple[str, ...]]
    ) -> list[str | None]:
        """The standard name of each value: `f` -> `female`."""
        ours = {alias: name for name, aliases in names.items() for alias in aliases}
        unknown: dict[str, int] = {}
        for number, value in zip(self.numbers, texts, strict=True):
            if value is not None and value.casefold() not in ours:
                unknown.setdefault(value, number)
        if unknown:
            listed = ", ".join(f"{value!r} (row {number})" for value, number in list(unknown.items())[:_MOST])
            raise ValueError(
                f"{self.source}: column {column} has {listed}; allowed: {', '.join(ours)}, or an empty cell if unknown."
            )
        return [None if value is None else ours[value.casefold()] for value in texts]

    def _refuse_decimals(self, column: str, texts: Sequence[str | None]) -> None:
        """Refuse a column of classes that holds decimal numbers: each would become a class."""
        numbers = [text for text in texts if text is not None and _NUMBER.fullmatch(text)]
        decimal = [text for text in numbers if not float(text.replace(",", ".")).is_integer()]
        if decimal and len(numbers) == sum(text is not None for text in texts):
            row = self.numbers[list(texts).index(decimal[0])]
            raise ValueError(
                f"{self.source}, row {row}: {column} is {decimal[0]}, a number and not a class. Name the column "
                f"{', '.join(DIMENSIONS)} (0 to 1), or give it another name and predict it with tasks=NAME."
            )

    def _one_spelling(self, column: str, texts: Sequence[str | None]) -> list[str | None]:
        """The texts, with the most frequent spelling of those that differ only in case or Unicode form."""
        spelling = _spelling(texts)
        others = defaultdict(list)
        for text, kept in spelling.items():
            if text != kept:
                others[kept].append(text)
        for kept, texts_of_it in list(others.items())[:_MOST]:
            said = " and ".join(repr(text) for text in sorted(texts_of_it))
            what = column if column in _CLASSES else f"{column} value"
            self.notes.append(f"{self.source}: {said} and {kept!r} are merged into one {what}, {kept!r}.")
        if len(others) > _MOST:
            self.notes.append(f"{self.source}: {len(others) - _MOST} more spellings of {column} are merged as well.")
        return [None if text is None else spelling[text] for text in texts]

    def _numbers(self, column: str, values: Sequence[Any]) -> list[float | None] | None:
        """The values as numbers; None if the column is not numeric."""
        present = [value for value in values if value is not None]
        numbers = [value for value in present if _number(value) is not None]
        others = [value for value in present if _number(value) is None]
        texts = [value for value in present if isinstance(value, str)]
        decimals = any("." in text or "," in text for text in numbers if isinstance(text, str))
        if others:
            if decimals and 2 * len(numbers) > len(present):
                self.notes.append(
                    f"{self.source}: {column} is read as classes, because {others[0]!r} is not a number, although "
                    f"{len(numbers)} of {len(present)} cells are."
                )
            return None
        if not present or (texts and self.typed and not decimals):
            return None  # deliberately text, such as the classes "1" and "2"
        for number, value, cell in zip(self.numbers, map(_number, values), values, strict=True):
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{self.source}, row {number}: {column} is {cell}; a value must be a finite number.")
        return [_number(value) for value in values]

    def _votes(self, number: int, cell: Any) -> list[tuple[str, float]] | None:
        """(label, raters) pairs of `angry:3;neutral:1` or of an object."""
        if cell is None or (isinstance(cell, str) and cell.strip().casefold() in MISSING):
            return None
        pairs = (
            cell.items()
            if isinstance(cell, Mapping)
            else (part.rpartition(":")[::2] for part in re.split("[;,]", str(cell)))
        )
        try:
            votes = [(_text(label) or "", float(count)) for label, count in pairs if count is not None]
        except (TypeError, ValueError, OverflowError):
            votes = []
        if not votes or not all(label and math.isfinite(count) and count >= 0 for label, count in votes):
            raise ValueError(
                f"{self.source}, row {number}: votes is {cell!r}; "
                f"write how many raters chose what, as in angry:3;neutral:1."
            )
        return votes


def parse_map(text: str, option: str = "--map") -> dict[str, str]:
    """`joy=happy,anger=angry`, other names for labels -> {label: name}; a ValueError names the `option`."""
    mapping: dict[str, str] = {}
    for part in text.split(","):
        label, equals, name = (word.strip() for word in part.partition("="))
        if not (label and equals and name) or "=" in name:
            raise ValueError(f"{option} needs LABEL=LABEL,... such as joy=happy,anger=angry; got {text!r}.")
        if label in mapping:
            raise ValueError(f"{option} gives {label!r} two names: {text!r}. Keep one of them.")
        mapping[label] = name
    return mapping


def same(text: str) -> str:
    """A key that all spellings of a name share: without case, Unicode form, invisible letters and double blanks."""
    seen = "".join(letter for letter in unicodedata.normalize("NFKC", text) if unicodedata.category(letter) != "Cf")
    return " ".join(unicodedata.normalize("NFKC", seen.casefold()).split())


def _spelling(texts: Iterable[str | None]) -> dict[str, str]:
    """{text: the spelling that is kept}: the most frequent one; of equally frequent ones the one in lower case."""
    groups: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for text, count in Counter(text for text in texts if text is not None).items():
        groups[same(text)][text] = count

    def order(item: tuple[str, int]) -> tuple[int, bool, str]:
        return -item[1], item[0] != item[0].lower(), item[0]

    kept = {key: min(counts.items(), key=order)[0] for key, counts in groups.items()}
    return {text: kept[key] for key, counts in groups.items() for text in counts}


def _text(value: Any) -> str | None:
    """A cell as text without outer or double blanks; 3.0 is `3`."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return _one_blank(str(value)) or None


@lru_cache(4096)
def _one_blank(text: str) -> str:
    """The text without outer or double blanks, in Unicode's composed form; a column has few different ones."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def _whole(texts: list[str | None]) -> list[str | None]:
    """`3.0` -> `3` if all values of the column are like that: pandas writes integers with gaps so."""
    if all(text is None or _WHOLE.fullmatch(text) for text in texts):
        return [None if text is None else text.partition(".")[0] for text in texts]
    return texts


def _number(value: Any) -> float | None:
    """The number in a cell, also as text in JSON's notation or with a decimal comma; None if there is none."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        number: float = json.loads(value.replace(",", "."))
        return number
    return None


def _is_nested(cell: Any) -> bool:
    if cell is None or isinstance(cell, str):
        return False
    return isinstance(cell, list | tuple | set | dict | bytes | bytearray) or hasattr(cell, "__array__")
