"""Strange names from a corpus to the pages: everything works, and nothing of a name becomes markup."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from undertone.publish.card import make_card
from undertone.tests.cli.commands import TINY, undertone
from undertone.tests.faults.conftest import LABELS, SPEAKERS, STEM, write_sound

HARMLESS = {
    "html", "head", "meta", "title", "style", "body", "main", "header", "footer", "section", "div", "span", "p", "h1",
    "h2", "h3", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "small", "i", "b", "dl", "dt", "dd", "pre",
    "details", "summary", "figure", "figcaption", "svg", "g", "path", "text", "tspan", "defs", "use", "rect", "line",
    "clippath", "circle", "polyline", "polygon", "image",
}  # fmt: skip


class Elements(HTMLParser):
    """What a browser would make of a page: elements, attributes, texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[tuple[str, str | None]] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= set(attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def check(page: str) -> Elements:
    """No element, handler of events or address that the templates have not."""
    elements = Elements(page)
    assert elements.tags <= HARMLESS, elements.tags - HARMLESS
    for name, value in elements.attributes:
        assert not name.startswith("on") and name != "src", (name, value)
        assert name not in ("href", "xlink:href") or str(value).startswith("#"), (name, value)
    return elements


def test_the_report(strange_run: Path) -> None:
    outcome = undertone("report", strange_run)
    assert outcome.status == 0, outcome.err
    elements = check((strange_run / "report.html").read_text(encoding="utf-8"))
    for name in (*LABELS, SPEAKERS[0], "Žofie 2", SPEAKERS[2], STEM):  # two blanks in a speaker's name are one
        assert name in elements.text, name
    markdown = (strange_run / "report.md").read_text(encoding="utf-8")
    assert not re.search(r"(?<!\\)<[a-z/]", re.sub(r"```.*?```", "", markdown, flags=re.S))


def test_the_comparison(strange_run: Path, tmp_path: Path) -> None:
    other = tmp_path / "<object data=x>"
    shutil.copytree(strange_run, other)
    outcome = undertone("compare", strange_run, other, "--out", tmp_path / "cmp ü")
    assert outcome.status == 0, outcome.err
    elements = check((tmp_path / "cmp ü" / "compare.html").read_text(encoding="utf-8"))
    assert STEM in elements.text and "<object data=x>" in elements.text


def test_the_card(strange_run: Path) -> None:
    results = json.loads((strange_run / "results.json").read_text(encoding="utf-8"))
    card = make_card(strange_run / "model", results, "me/strange")
    _, head, body = card.split("---\n", 2)
    assert yaml.safe_load(head)["model-index"]
    assert Elements(body).tags == set() and "](http" not in body
    assert body.count("`") % 2 == 0


def test_prediction_and_evaluation(strange_run: Path, strange_corpus: Path, tmp_path: Path) -> None:
    sound = write_sound(tmp_path / "ein Ton [x] ✓.wav", 300)
    outcome = undertone("predict", strange_run, sound, "--json")
    (row,) = json.loads(outcome.out)
    assert row["file"] == str(sound) and set(row["emotion"]["scores"]) == set(LABELS)
    for form in ("--csv", "--json"):
        assert undertone("predict", strange_run, sound, form).status == 0
    shown = undertone("predict", strange_run, sound)
    assert shown.status == 0 and "\x1b" not in shown.out
    outcome = undertone("evaluate", strange_run, strange_corpus, "--out", tmp_path / "evaluation")
    assert outcome.status == 0 and "\x1b" not in outcome.out, outcome.err


def test_prepare_shows_names_as_they_are_without_obeying_them(strange_corpus: Path, tmp_path: Path) -> None:
    outcome = undertone("prepare", strange_corpus, "--out", tmp_path / "m ü")
    assert outcome.status == 0, outcome.err
    assert "[/red]" in outcome.out and "[blue]" in outcome.out and "\x1b" not in outcome.out


def test_a_folder_per_class_with_strange_names(tmp_path: Path) -> None:
    folder = tmp_path / "mein [/i] Körper ü"
    for number, label in enumerate(["sehr <b>froh", "traurig $"]):
        for take in range(6):
            write_sound(folder / label / f"Sprecher {take % 3} – {take}.wav", 200 + 200 * number + take)
    words = ["corpus.speaker=(Sprecher \\d)", "--out", tmp_path / "lauf", f"store={tmp_path / 's'}", *TINY]
    outcome = undertone("crossval", folder, *words)
    assert outcome.status == 0, outcome.err
    results = json.loads((tmp_path / "lauf" / "results.json").read_text(encoding="utf-8"))
    assert {fold["name"] for fold in results["folds"]} == {"Sprecher 0", "Sprecher 1", "Sprecher 2"}


@pytest.mark.parametrize("command", [["prepare"], ["train"]])
def test_a_name_that_is_no_utf_8_is_set_aside_and_said(command: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    for number, label in enumerate(["happy", "sad"]):
        for take in range(6):
            write_sound(folder / label / f"{take % 3}_{take}.wav", 200 + 200 * number + take)
    source = write_sound(folder / "sad" / "0_9.wav", 333)
    source.rename(folder / "sad" / b"0_caf\xe9.wav".decode("utf-8", "surrogateescape"))
    words = ["--out", tmp_path / "out", "corpus.speaker=(\\d)_.*"]
    outcome = undertone(*command, folder, *words, *(TINY if command == ["train"] else ()))
    assert outcome.status == 0, outcome.err
    assert "caf\\udce9.wav: the file's name is not UTF-8 text. Rename it." in outcome.out + outcome.err
