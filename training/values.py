"""Values as a user writes them: YAML in a file or after `key=`, and several upstreams in one word."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import yaml

_NAMED = re.compile(r"([a-z][a-z0-9_]*)=(.+)")
ONLY = "speech"  # as `undertone.upstream.types.ALONE`; importing that would import torch


def split(text: str) -> tuple[Any, ...]:
    """The values of words separated by commas."""
    return tuple(parse(part.strip()) for part in text.split(",") if part.strip())


class _Yaml(yaml.SafeLoader):
    """YAML without aliases: a few lines of nested aliases can expand to more text than fits in memory."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias, *name; write the value again")
        return super().compose_node(parent, index)


_Yaml.add_implicit_resolver(  # YAML 1.1 reads 3e-4, without a point, as a string
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_yaml(text: str) -> Any:
    """Parse YAML; classes, functions and aliases are refused."""
    return yaml.load(text, _Yaml)  # a safe loader


def parse(text: str) -> Any:
    """The value of one word of YAML."""
    try:
        return read_yaml(text)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"Cannot read the value {text!r}: {error}") from error


def named_upstreams(text: str) -> dict[str, str]:
    """{stream: upstream} of `wavlm=microsoft/wavlm-base+mfcc`; of one upstream without a name {"speech": upstream}.

    Raises:
        ValueError: one of several that has no name and is no acoustic front-end, or two of one name.
    """
    parts = [text] if os.path.exists(os.path.expanduser(text)) else text.split("+")
    if len(parts) == 1 and not _NAMED.fullmatch(text):
        return {ONLY: text}
    found: dict[str, str] = {}
    for part in map(str.strip, parts):
        match = _NAMED.fullmatch(part)
        name, upstream = match.groups() if match else (part, part)
        if match is None and not re.fullmatch(r"[a-z][a-z0-9_]*", part):
            raise ValueError(f"each of several upstreams needs a name of a-z, 0-9 and _, as ssl={part}")
        if name in found:
            raise ValueError(f"two upstreams are called {name!r}. Give each a name of its own, NAME=UPSTREAM")
        found[name] = upstream
    return found


def join_upstreams(named: Mapping[str, str]) -> str:
    """The word that `named_upstreams` reads as these streams; beside others, `mfcc=mfcc` is `mfcc`."""
    several = len(named) > 1
    return "+".join(name if several and name == upstream else f"{name}={upstream}" for name, upstream in named.items())
