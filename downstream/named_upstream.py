"""The upstream that a head-only folder names, refused if it is not the one that the head was trained on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from undertone.downstream.config import UndertoneConfig
from undertone.upstream import Upstream, load_upstream
from undertone.upstream.hf import NOT_COMPUTED
from undertone.upstream.load import check_allowed

SETTINGS = ("options", "do_normalize", "sample_rate")


def named_upstream(config: UndertoneConfig, allow: tuple[str, ...] = ()) -> Upstream:
    """Load it, with the weights and the settings that the config recorded; the version of transformers may differ.

    Raises:
        ValueError: it is code from outside undertone that `allow` does not name, it cannot be loaded, or its weights or
            settings are others; the message names them.
    """
    spec = config.upstream
    if not os.path.isdir(os.path.expanduser(spec["name"])):  # what is no folder may be a file of Python
        check_allowed("upstream", spec["name"], allow)
    try:
        upstream = load_upstream(
            spec["name"], revision=spec.get("commit") or spec.get("revision"), options=spec.get("options")
        )
    except ValueError as error:
        raise ValueError(f"This folder holds a head alone, which needs its upstream. {error}") from error
    differing = _differences(spec, upstream.spec())
    if config.upstream_hash != upstream.weights_hash():
        differing.append(f"weights {config.upstream_hash[:12] or 'without a hash'}, not {upstream.weights_hash()[:12]}")
    if differing:
        raise ValueError(
            f"This head was trained on another upstream than {spec['name']!r} is now: {'; '.join(differing)}. "
            f"Use the self-contained model, or train again."
        )
    return upstream


def _differences(trained_on: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """`key trained, not found` of every setting that both record; a later transformers may know more of them."""
    then, now = (_settings(spec) for spec in (trained_on, found))
    return [f"{key} {then[key]!r}, not {now[key]!r}" for key in then.keys() & now.keys() if then[key] != now[key]]


def _settings(spec: Mapping[str, Any]) -> dict[str, Any]:
    config = {key: value for key, value in spec.get("config", {}).items() if key not in NOT_COMPUTED}
    return config | {key: spec[key] for key in SETTINGS if key in spec}
