"""The command line that makes a run again, from its resolved config."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from undertone.training.config import NESTED, RunConfig

_FLAGS = ("root", "upstream", "head")


def command_line(config: Mapping[str, Any], run: Path, fold: str | None = None) -> str:
    """`undertone crossval CORPUS --out RUN ...` with every setting that is not the default; of one fold, `train`.

    Run where `run` is unfinished it resumes; with another --out it makes the run again.

    Args:
        config: the content of RUN/config.json.
        run: RUN, as it is to stand in the command.
        fold: the only one that was trained; None: all of them were.
    """
    words = ["undertone", "crossval" if fold is None else "train", str(config["corpus"])]
    for key in _FLAGS:
        if config.get(key) is not None:
            words += [f"--{key}", str(config[key])]
    words += ["--out", str(run), *(["--fold", fold] if fold is not None else [])]
    for key, value in config.items():
        if key not in ("corpus", *_FLAGS) and not _is_default(key, value):
            words += _assignments(key, value)
    return shlex.join(words)


def _is_default(key: str, value: Any) -> bool:
    field = RunConfig.model_fields.get(key)
    default = field.get_default() if field is not None else None
    default = default.model_dump(mode="json") if isinstance(default, BaseModel) else default
    return bool(value == (list(default) if isinstance(default, tuple) else default))


def _assignments(key: str, value: Any) -> list[str]:
    """The words that set one setting: `key=value`, or `head.NAME=value` for each option of a head."""
    if isinstance(value, Mapping):
        prefix = {field: prefix for prefix, field in NESTED.items()}.get(key, key)
        return [f"{prefix}.{name}={_option(key, option)}" for name, option in value.items()]
    return [f"{key}={_text(value)}"]


def _option(key: str, value: Any) -> str:
    """A list as JSON, which may be nested; the values of a sweep with commas."""
    return json.dumps(value, separators=(",", ":")) if isinstance(value, list) and key != "sweep" else _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return ",".join(str(item) for item in value) if isinstance(value, list | tuple) else str(value)
