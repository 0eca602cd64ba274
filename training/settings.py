"""Flags, key=value words, YAML files and presets -> RunConfig, and back to a file or a command line."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from undertone.common.files import read_record, write_json
from undertone.training.config import NESTED, RUN_TYPE, SHORT, RunConfig, explain
from undertone.training.values import join_upstreams, named_upstreams, parse, read_yaml

WHERE_ONLY = ("store", "store_budget", "memory", "device", "log_with")


def make_config(
    values: Mapping[str, Any],
    assignments: Iterable[str] = (),
    file: Path | None = None,
    preset: Mapping[str, Any] | None = None,
) -> RunConfig:
    """Merge a preset, a YAML or JSON file, the flags' values (None = not given) and `key=value` words, and validate.

    Later ones win; one value wins over an earlier sweep of that setting.

    Raises:
        ValueError: an unreadable file, a word without `=`, an unknown key (the message names the nearest), a bad value.
    """
    merged, content = dict(preset or {}), _read_file(file) if file is not None else {}
    given = {key: value for key, value in values.items() if value is not None}
    words = sorted(assignments, key=lambda word: not word.startswith("upstream="))  # before the options of that
    _leave_options(merged, content.get("upstream"))
    merged |= content
    for key in given:
        _unsweep(merged, key)
    _leave_options(merged, given.get("upstream"))
    merged |= given
    for word in words:
        _leave_options(merged, word.removeprefix("upstream=") if word.startswith("upstream=") else None)
        assign(merged, word)
    try:
        return RunConfig(**merged)
    except ValidationError as error:
        raise ValueError(explain(error)) from error


def _leave_options(merged: dict[str, Any], upstream: Any) -> None:
    """Remove the options of a preset's or a file's upstream where another one takes its place."""
    if upstream is not None and upstream != merged.get("upstream", upstream):
        merged.pop("upstream_options", None)


def corpus_options(words: Iterable[str]) -> dict[str, Any]:
    """The options in `corpus.NAME=value` words, for a command that takes no other settings."""
    merged: dict[str, Any] = {}
    for word in words:
        assign(merged, word)
        if list(merged) != ["corpus_options"]:
            raise ValueError(f"Expected corpus.NAME=value, got {word!r}; there are no other settings here.")
    return dict(merged.get("corpus_options", {}))


def _read_file(file: Path) -> dict[str, Any]:
    try:
        content = read_yaml(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"Cannot read the config {file}: {error.strerror}.") from error
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:  # PyYAML lets those of Python through
        raise ValueError(f"The config {file} is not valid YAML: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        got = "keys that are not text" if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"The config {file} must hold `key: value` lines, got {got}.")
    return {SHORT.get(key, str(key)): value for key, value in content.items()}


def assign(merged: dict[str, Any], word: str) -> None:
    """Apply one `key=value`; `head.NAME=value` sets an option of the head; values are YAML, or lists with commas."""
    key, equals, text = word.partition("=")
    if not equals or not key:
        raise ValueError(f"Expected key=value, got {word!r}. For example learning_rate=3e-4 or head.dropout=0.1.")
    value = parse(text)
    prefix, dot, option = key.partition(".")
    if dot and prefix in NESTED:
        before = merged.get(NESTED[prefix], {})
        if not isinstance(before, Mapping):
            raise ValueError(f"Setting {NESTED[prefix]!r} must hold `name: value` lines, got {before!r}.")
        _unsweep(merged, key)
        name, deeper, own = option.partition(".")
        if prefix == "streams" and deeper:  # streams.NAME.SETTING
            option, value = name, {**dict(before.get(name, {})), own: value}
        merged[NESTED[prefix]] = {**before, option: value}
        return
    key = SHORT.get(key, key)
    _unsweep(merged, key)
    if key in ("tasks", "adversarial", "postprocess"):
        value = tuple(part.strip() for part in text.split(",") if part.strip())
    merged[key] = value


def _unsweep(merged: dict[str, Any], key: str) -> None:
    """Remove a setting that is now given from the sweep of a preset or a file."""
    if isinstance(sweep := merged.get("sweep"), Mapping):
        merged["sweep"] = {name: values for name, values in sweep.items() if SHORT.get(name, name) != key}


# ---- The resolved config in a run's folder.


def save_config(config: RunConfig, path: Path) -> None:
    """Write the resolved config as JSON; `undertone crossval --config FILE` reads it back.

    Its `model_type` lets transformers' Auto classes say that a run is no model (`UndertoneRunConfig`).
    """
    write_json(path, {"model_type": RUN_TYPE, **json.loads(config.model_dump_json())})


def check_same_run(config: RunConfig, path: Path) -> None:
    """Refuse to continue a run under another config than the one it was started with."""
    if not path.is_file():
        return
    before, now = read_record(path), json.loads(config.model_dump_json())
    with suppress(ValidationError):  # a setting that is newer than the run has its default
        before = json.loads(RunConfig(**before).model_dump_json())
    refuse_changes(before, now, f"{path.parent} holds a run")


def refuse_changes(before: Mapping[str, Any], now: Mapping[str, Any], what: str) -> None:
    """Refuse settings that differ from those `what` was started with, but for where it computes and stores."""
    changed = [key for key in now if before.get(key) != now[key] and key not in WHERE_ONLY]
    if changed:
        listing = ", ".join(f"{key} was {before.get(key)!r}, now {now[key]!r}" for key in changed)
        raise ValueError(f"{what} with other settings: {listing}. Choose another --out.")


# ---- The command line that repeats a run, from its resolved config.

_FLAGS = ("root", "upstream", "head")


def command_line(config: Mapping[str, Any], run: Path, fold: str | None = None) -> str:
    """`undertone crossval CORPUS --out RUN ...` with every setting that differs from its default; `train` for one fold.

    With an unfinished `run` it resumes; with another --out it repeats the run.

    Args:
        config: the content of RUN/config.json.
        run: RUN, as written in the command.
        fold: the only one that was trained; None: all.
    """
    words = ["undertone", "crossval" if fold is None else "train", str(config["corpus"])]
    for key in _FLAGS:
        if config.get(key) is not None:
            words += [f"--{key}", str(config[key])]
    words += ["--out", str(run), *(["--fold", fold] if fold is not None else [])]
    for key, value in config.items():
        if key not in ("corpus", "model_type", *_FLAGS) and not _is_default(key, value):
            words += _assignments(key, value)
    return shlex.join(words)


def public_command(config: RunConfig) -> str:
    """The command that repeats a run, for others: nothing of this machine, and of each path its last part."""
    settings = json.loads(config.model_dump_json())
    for key in ("root", "store", "store_budget", "memory", "device", "log_with"):
        settings[key] = RunConfig.model_fields[key].get_default()
    if config.upstream not in (upstreams := named_upstreams(config.upstream)).values():
        settings["upstream"] = join_upstreams({name: _last_part(one) for name, one in upstreams.items()})
    return command_line({key: _last_part(value) for key, value in settings.items()}, Path("RUN"))


def _last_part(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _last_part(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_last_part(item) for item in value]
    is_path = isinstance(value, str) and ("/" in value or "\\" in value) and not value.startswith("hf:")
    return Path(value).name if is_path and (value[0] in "/~.\\" or Path(value).exists()) else value


def _is_default(key: str, value: Any) -> bool:
    field = RunConfig.model_fields.get(key)
    default = field.get_default() if field is not None else None
    default = default.model_dump(mode="json") if isinstance(default, BaseModel) else default
    return bool(value == (list(default) if isinstance(default, tuple) else default))


def _assignments(key: str, value: Any) -> list[str]:
    """The words that set one setting: `key=value`, or `head.NAME=value` for each option of a head."""
    if key == "streams":
        return [word for name, own in value.items() for word in _assignments(f"streams.{name}", own)]
    if isinstance(value, Mapping):
        prefix = {field: prefix for prefix, field in NESTED.items()}.get(key, key)
        return [f"{prefix}.{name}={_option(key, option)}" for name, option in value.items()]
    return [f"{key}={_text(value)}"]


def _option(key: str, value: Any) -> str:
    """A list or a mapping as JSON, since it may be nested; a sweep's values with commas."""
    nested = isinstance(value, Mapping) or (isinstance(value, list) and key != "sweep")
    return json.dumps(value, separators=(",", ":")) if nested else _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return ",".join(str(item) for item in value) if isinstance(value, list | tuple) else str(value)
