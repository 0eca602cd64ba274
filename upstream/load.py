"""From a name or a spec to an upstream."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from undertone.common.discovery import available, check_bools, find_class, nearest
from undertone.upstream.base import Upstream
from undertone.upstream.hf.encoder import EncoderUpstream
from undertone.upstream.hf.families import FAMILIES
from undertone.upstream.hf.pretrained import read_config
from undertone.upstream.hf.upstream import FamilyUpstream
from undertone.upstream.hf.video import PICTURES, VideoUpstream
from undertone.upstream.streams import Streams

ACOUSTIC = "undertone.upstream.acoustic"
SHIPPED = Path(__file__).parent / "shipped"  # folders that `undertone pretrain` wrote
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
ALLOWED = (
    "An upstream is an acoustic front-end, tiny, a Hub id such as microsoft/wavlm-base-plus, a local folder with "
    "config.json and weights, ./my_upstream.py, or my_package.module:ClassName."
)


def load_upstream(name: str, *, revision: str | None = None, options: Mapping[str, Any] | None = None) -> Upstream:
    """A ready upstream with its weights, in eval mode.

    Args:
        name: `fbank`, `mfcc` or `spectrogram`; `tiny`, which the package holds; a Hub id; a local folder;
            `./my_upstream.py`; `my_pkg.module:Mine`.
        revision: branch, tag or commit on the Hub.
        options: keyword arguments of a class's constructor; a Hub model or folder takes none.

    Raises:
        ValueError: nothing of that name, a model that has no audio encoder, or weights that do not fit it.
    """
    folder = folder_of(name)
    is_folder = os.path.isdir(folder)  # False, too, for what is no name of a file
    if not is_folder and name.endswith((".pt", ".pth", ".ckpt")):
        raise ValueError(
            f"{name!r} is one file of weights, as fairseq, s3prl and FunASR write. Give the Hub id of the same model; "
            f"or, of wav2vec 2.0, HuBERT, WavLM and data2vec, the folder that "
            f"`python -m undertone.upstream.hf.fairseq FILE FOLDER` makes. docs/upstreams.md says more."
        )
    if is_folder or HUB_ID.fullmatch(name):
        if options:
            raise ValueError(
                f"Upstream {name!r} takes no options, got {sorted(options)}; its settings are in its config.json."
            )
        where = folder if is_folder else name
        config = read_config(where, revision)
        upstream = _hf_class(config.model_type).from_pretrained(where, revision, config).eval()
        if name in shipped():
            upstream.name = name  # not the place of this installation
        return upstream
    if revision is not None:
        raise ValueError(f"Upstream {name!r} has no revisions, got revision={revision!r}. Leave it out.")
    return _make(name, options or {})


def shipped() -> list[str]:
    """Names of the pretrained upstreams that the package holds."""
    return sorted(path.parent.name for path in SHIPPED.glob("*/config.json"))


def folder_of(name: str) -> str:
    """The folder that an upstream's name stands for, if it stands for one.

    Raises:
        ValueError: the name is that of an upstream of the package and of a folder here.
    """
    if name not in shipped():
        return os.path.expanduser(name)
    if os.path.isdir(name):
        raise ValueError(f"{name!r} is an upstream of the package and a folder here. For the folder, write ./{name}.")
    return str(SHIPPED / name)


def _hf_class(model_type: str) -> type[FamilyUpstream] | type[EncoderUpstream] | type[VideoUpstream]:
    """A speech model's, one of pictures, or that of the audio encoder of any other model."""
    if model_type == PICTURES:
        return VideoUpstream
    return FamilyUpstream if model_type in FAMILIES else EncoderUpstream


def build_upstream(spec: Mapping[str, Any], *, allow: tuple[str, ...] = (), num_weights: int | None = None) -> Upstream:
    """The architecture that `Upstream.spec` describes, in eval mode; its weights are not those of any checkpoint.

    Args:
        spec: what `Upstream.spec` returned.
        allow: packages (`my_pkg`) or files (`./my_upstream.py`) from outside undertone whose class a spec may name.
        num_weights: how many there are to fill it; a larger architecture is refused before it takes memory.

    Raises:
        ValueError: the spec names a class from elsewhere that is not allowed, or no known architecture.
    """
    kind = spec.get("kind")
    if kind == "streams":
        parts, left = {}, num_weights
        for one in spec["streams"]:
            part = parts[one["stream"]] = build_upstream(one, allow=allow, num_weights=left)
            if left is not None:  # what the others may have: the file is of all together
                left -= sum(weight.numel() for weight in part.parameters())
        return Streams(parts).eval()
    if kind == "hf":
        return _hf_class(spec["config"]["model_type"]).from_spec(spec, num_weights).eval()
    if kind != "class":
        raise ValueError(f"An upstream's spec has kind 'hf', 'class' or 'streams', got {kind!r}. Save the model again.")
    name = spec["name"]
    check_allowed("upstream", name, allow)
    return _make(name, spec.get("options", {}))


def check_allowed(part: str, name: str, allow: tuple[str, ...]) -> None:
    """Refuse a saved model's head or upstream that is code from outside undertone, unless `allow` names it."""
    if is_outside(name) and not any(name == entry or name.startswith((f"{entry}.", f"{entry}:")) for entry in allow):
        package = name if name.endswith(".py") else name.split(":")[0].split(".")[0]
        raise ValueError(
            f"This model's {part} is {name!r}, code from outside undertone. If you trust it, give --allow {package}, "
            f"in Python allow=({package!r},)."
        )


def is_outside(name: str) -> bool:
    """Whether a name stands for a file or class from outside undertone."""
    return ":" in name or name.endswith(".py")


def _make(name: str, options: Mapping[str, Any]) -> Upstream:
    if not is_outside(name) and name not in (known := available(ACOUSTIC, Upstream)):
        if "/" in name or "\\" in name or name.startswith((".", "~")):
            raise ValueError(f"No such folder: {name!r}. {ALLOWED}")
        raise ValueError(f"Unknown upstream {name!r}.{nearest(name, known)} {ALLOWED}")
    upstream_class = find_class(name, ACOUSTIC, Upstream)  # type: ignore[type-abstract]
    check_bools("Upstream", name, upstream_class, options)
    try:
        upstream = upstream_class(**options)
    except TypeError as error:
        raise ValueError(f"Upstream {name!r} does not take the options {dict(options)}: {error}.") from error
    upstream.name, upstream.options = name, dict(options)
    return upstream.eval()
