"""What `undertone list` shows: every setting with its values, default and description, and every option."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import ByteSize, Field

from undertone.commands.listing import HEADS, allowed, describe, listing, setting_tables, settings_page, shown
from undertone.common.discovery import available, find_class, options_of
from undertone.corpora.corpus import Corpus
from undertone.downstream.head import Head
from undertone.downstream.ladder_options import LadderOptions
from undertone.tests.cli.commands import undertone
from undertone.training.augmentation import Augmentation
from undertone.training.config import GROUPS, NESTED, RunConfig
from undertone.upstream.base import Upstream
from undertone.upstream.load import ACOUSTIC

ROOT = Path(__file__).parents[2]


def rows_of(group: str | None = None, word: str | None = None) -> dict[str, list[str]]:
    """{setting: values, default, description}."""
    return {row[0].split(" ")[0]: row[1:] for _, _, rows in setting_tables(group, word) for row in rows}


def test_every_setting_is_listed_once_with_its_values_and_a_description() -> None:
    nested = {f"augment.{name}" for name in Augmentation.model_fields}
    nested |= {f"ladder.{name}" for name in LadderOptions.model_fields}
    nested |= {f"{prefix}.NAME" for prefix in NESTED if prefix not in ("augment", "ladder")}
    rows = rows_of()
    assert set(rows) == nested | (set(RunConfig.model_fields) - set(NESTED.values()))
    assert sum(len(table[2]) for table in setting_tables()) == len(rows)
    assert all(values and description and description != "None" for values, _, description in rows.values())
    assert rows["schedule"][:2] == ["linear, cosine, constant", "linear"]
    assert rows["lora_dropout"][:2] == ["number >= 0 < 1", "0.0"]
    assert rows["max_steps"][:2] == ["integer >= 1 or null", "null"]
    assert rows["augment.noise"][:2] == ["number,number or null", "null"]
    assert rows["ladder.lambdas"][:2] == ["list of number >= 0", "1.0"]
    assert rows["corpus"][1] == "required"


def test_the_groups_hold_every_field_once() -> None:
    fields = [name for cls in GROUPS.values() for name in cls.model_fields]
    assert fields == list(RunConfig.model_fields) and len(fields) == len(set(fields))
    assert {"data", "upstream", "head", "optimisation", "losses", "evaluation", "store", "output"} <= set(GROUPS)


def test_a_group_or_a_word_narrows_the_list() -> None:
    assert set(rows_of("store")) == {"store", "store_dtype", "store_budget", "memory"}
    assert {"learning_rate", "upstream_learning_rate", "warmup"} <= set(rows_of(word="rate"))
    assert "corpus" not in rows_of(word="rate")
    assert "learning_rate" in rows_of("optimisation", "rate") and "upstream_learning_rate" not in rows_of(
        "optimisation", "rate"
    )


def test_docs_settings_is_what_the_command_writes() -> None:
    """`undertone list settings --markdown > docs/settings.md` makes it again."""
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == settings_page()


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (bool, "true, false"),
        (int | None, "integer or null"),
        (Literal["a", "b"] | None, "a, b or null"),
        (tuple[str, ...], "list of text"),
        (tuple[float, float], "number,number"),
        (tuple[Annotated[float, Field(ge=0)], ...], "list of number >= 0"),
        (float | Mapping[str, float], "number or {name: number}"),
        (ByteSize, "bytes"),
        (Any, "any value"),
    ],
)
def test_a_type_in_words(annotation: Any, text: str) -> None:
    assert allowed(annotation) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "null"), (True, "true"), ((), ""), ((1, 2), "1,2"), (((2, 2), (1, 2)), "[[2,2],[1,2]]")]
)
def test_a_value_in_words(value: Any, text: str) -> None:
    assert shown(value) == text


PARTS: list[tuple[str, type]] = [(HEADS, Head), ("undertone.corpora", Corpus), (ACOUSTIC, Upstream)]
PARTS.append(("undertone.corpora.own", Corpus))


@pytest.mark.parametrize(("package", "base"), PARTS, ids=[package for package, _ in PARTS])
def test_every_option_of_every_part_has_a_type_a_default_and_a_description(package: str, base: type) -> None:
    for name in available(package, base):
        for option in options_of(find_class(name, package, base)):
            assert option.description and allowed(option.annotation) != "any value", (name, option)


def test_options_come_from_the_docstring() -> None:
    titles, _, rows = describe("heads", "attention")
    assert titles[0].startswith("attention: Projection -> convolution")
    assert ["head.kernel_size", "integer", "5", "frames that the convolution sees; odd."] in rows
    assert describe("heads", "svm")[2][0][:3] == ["head.C", "number or {name: number}", "1.0"]  # of its base class
    assert [row[0] for row in describe("corpora", "iemocap")[2]] == ["corpus.labels", "corpus.part"]
    assert describe("upstreams", "facebook/wav2vec2-base")[1] == []
    assert ["learning_rate", "0.0001"] not in describe("systems", "superb")[2]
    assert ["head", "linear"] in describe("systems", "superb")[2]


def test_every_kind_is_a_table_of_one_line_each() -> None:
    for kind in ("corpora", "upstreams", "heads", "systems"):
        _, header, rows = listing(kind)
        assert rows and all(len(row) == len(header) and row[0] and row[1] for row in rows), kind
    assert "session, superb" in next(row for row in listing("corpora")[2] if row[0] == "iemocap")
    assert ["mean", "classes, values"] == next(row for row in listing("heads")[2] if row[0] == "svm")[2:]


def test_the_command_and_its_errors() -> None:
    assert "learning_rate" in undertone("list", "settings", "--group", "optimisation", "peak").out
    assert "head.C" in undertone("list", "heads", "ridge").out
    for words, message in (
        (("settings", "--group", "optimization"), "no group 'optimization' of settings. Did you mean 'optimisation'"),
        (("settings", "learning_rte"), "No setting has 'learning_rte' in its name or description. Did you mean"),
        (("heads", "atention"), "Unknown head 'atention'. Did you mean 'attention'"),
        (("heads", "--markdown"), "--group and --markdown are for settings"),
        (("setings",), "Cannot list 'setings'. Did you mean 'settings'"),
    ):
        assert undertone("list", *words).fails_with(message), words
