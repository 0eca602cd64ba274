"""Property tests: whatever the bytes, a result or a sentence of ours, within seconds.

The short form tries a few inputs, the same ones each time; `-m slow` tries many, others each time (and prints what
repeats a failure). `python tests/faults/fuzz.py TARGET` goes on for as long as it is let, guided by coverage.
"""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from undertone.tests.faults.rules import attempt
from undertone.tests.faults.targets import JSON_TARGETS, TARGETS, import_all

FEW, MANY = 12, 1500
QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}
VALUES: list[Any] = [None, True, -1, 0, 1.5, 1e308, 10**8, 10**20, "", "x", "../../evil.py", "os:system", "a\0b"]
VALUES += ["\ud800", [], [1], ["a", "a"], [[]], {}, {"a": 1}]


@pytest.fixture(autouse=True, scope="module")
def silent() -> Iterator[None]:
    """Warnings of every input are not of interest, nor the time of the first imports."""
    import_all()
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@st.composite
def mutated(draw: st.DrawFn, seeds: list[bytes], words: tuple[bytes, ...]) -> bytes:
    """A valid content with one to four places changed: a bit, a byte, a cut, a word written in or over."""
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        match draw(st.integers(0, 5 if words else 3)):
            case 0 if content:
                content[place] ^= 1 << draw(st.integers(0, 7))
            case 1 if content:
                content[place] = draw(st.integers(0, 255))
            case 2:
                del content[place : place + draw(st.integers(1, 50))]
            case 3:
                del content[place:]
            case 4:
                content[place:place] = draw(st.sampled_from(words))
            case 5:
                word = draw(st.sampled_from(words))
                content[place : place + len(word)] = word
    return bytes(content)


@st.composite
def documents(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A valid JSON document, a line of a file of them, with a value or two of another kind, or left out."""
    lines = [line for seed in seeds for line in ([seed] if _parsed(seed) is not None else seed.splitlines())]
    document = _parsed(draw(st.sampled_from([line for line in lines if _parsed(line) is not None])))
    for _ in range(draw(st.integers(1, 2))):
        places = list(_places(document))
        if not places:
            return json.dumps(draw(st.sampled_from(VALUES))).encode()
        home, key = draw(st.sampled_from(places))
        if isinstance(home, dict) and draw(st.integers(0, 3)) == 0:
            del home[key]
        else:
            home[key] = copy.deepcopy(draw(st.sampled_from(VALUES)))
    return json.dumps(document).encode()


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of every value inside."""
    if isinstance(value, (dict, list)):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def contents(name: str) -> st.SearchStrategy[bytes]:
    """What is tried on a target."""
    target = TARGETS[name]
    seeds = target.seeds()
    found: st.SearchStrategy[bytes] = mutated(seeds, target.words)
    found = st.one_of(found, found, st.binary(max_size=200))
    with_json = [seed for seed in seeds if any(_parsed(line) is not None for line in [seed, *seed.splitlines()])]
    return st.one_of(found, documents(with_json), documents(with_json)) if name in JSON_TARGETS and with_json else found


def one(name: str, content: bytes) -> str | None:
    """Give a target one input, in a folder of its own."""
    with TemporaryDirectory() as folder:
        return attempt(lambda: TARGETS[name].run(Path(folder), content))


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_valid_is_read(name: str) -> None:
    """The seeds are no refusals, so that their mutations reach what lies behind the first check."""
    for content in TARGETS[name].seeds():
        sentence = one(name, content)
        assert sentence is None or name in ("file_names", "data_set"), sentence


def run(name: str, rules: settings) -> None:
    """Try what `rules` allow."""

    @rules
    @given(contents(name))
    def inner(content: bytes) -> None:
        one(name, content)

    inner()


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes(name: str) -> None:
    run(name, settings(max_examples=FEW, derandomize=True, **QUIET))


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_many_times(name: str) -> None:
    run(name, settings(max_examples=MANY, print_blob=True, **QUIET))


def test_an_error_of_another_library_is_no_refusal() -> None:
    """The rule itself can fail."""
    from undertone.tests.faults.rules import NotRefused

    for wrong in (lambda: json.loads("{"), lambda: int("x"), lambda: {}["x"], lambda: open("/no/such")):
        with pytest.raises(NotRefused):
            attempt(wrong)
