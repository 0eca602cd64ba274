"""Values as a user writes them: one word of YAML each."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import yaml


def split(text: str) -> tuple[Any, ...]:
    """The values of words with commas between them."""
    return tuple(parse(part.strip()) for part in text.split(",") if part.strip())


class _Yaml(yaml.SafeLoader):
    """YAML without aliases: a few lines of aliases of aliases stand for more text than there is memory."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias, *name; write the value again")
        return super().compose_node(parent, index)


def read_yaml(text: str) -> Any:
    """What a YAML text says; classes, functions and aliases are refused."""
    return yaml.load(text, _Yaml)  # a safe loader


def parse(text: str) -> Any:
    """The value that one word of YAML stands for.

    Raises:
        ValueError: it is not YAML.
    """
    try:
        if "e" in text.lower():
            with suppress(ValueError):
                return float(text)  # YAML 1.1 reads 3e-4 as a string
        return read_yaml(text)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"Cannot read the value {text!r}: {error}") from error
