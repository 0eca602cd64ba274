"""`undertone list`: corpora, upstreams, heads and systems by name, their options, and every setting of a run."""

from __future__ import annotations

import importlib
import inspect
import json
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer

from undertone.commands.terminal import show
from undertone.common.discovery import available, find_class, nearest, options_of

HEADS = "undertone.downstream.heads"
PREFIXES = {"corpora": "corpus", "upstreams": "upstream", "heads": "head"}
OPTION_HEADER = ["Option", "Values", "Default", "Description"]
SETTING_HEADER = ["Setting", *OPTION_HEADER[1:]]
PREDICTED = {"classification": "classes", "distribution": "votes", "regression": "values"}

TableOf = tuple[list[str], list[str], list[list[str]]]  # title lines, header, rows


def list_names(
    kind: Annotated[str, typer.Argument(help="corpora, upstreams, heads, systems or settings")],
    name: Annotated[
        str | None, typer.Argument(help="show the options of this one; of settings: only those with this word")
    ] = None,
    group: Annotated[str | None, typer.Option(help="settings: only this group, such as optimisation")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="settings: as a Markdown page")] = False,
) -> None:
    """List corpora, upstreams, heads, systems or settings, or the options of one of them."""
    if kind != "settings" and (group is not None or markdown):
        raise ValueError(f"--group and --markdown are for settings: undertone list settings, got list {kind}.")
    if kind != "settings":
        show(listing(kind) if name is None else describe(kind, name))
    elif markdown:
        typer.echo(settings_page(), nl=False)
    else:
        for table in setting_tables(group, name):
            show(table)


def listing(kind: str) -> TableOf:
    """Everything of a kind, one line each; a ValueError names the kinds."""
    listings = {"corpora": _corpora, "upstreams": _upstreams, "heads": _heads, "systems": _systems}
    if kind not in listings:
        raise ValueError(f"Cannot list {kind!r}.{nearest(kind, [*listings, 'settings'])}")
    return listings[kind]()


def _first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").split("\n")[0]


def _corpora() -> TableOf:
    from undertone.corpora import OWN_DATA, corpus_names
    from undertone.corpora.corpus import Corpus

    found: list[tuple[str, Any]] = [(name, find_class(name, "undertone.corpora", Corpus)) for name in corpus_names()]
    found += [(what, find_class(kind, "undertone.corpora.own", Corpus)) for kind, what in OWN_DATA.items()]
    rows = [
        [name, _first_line(cls), cls.licence, ", ".join(dict.fromkeys([cls.default_protocol, *cls.own_protocols]))]
        for name, cls in found
    ]
    return [], ["Corpus", "What it is", "Licence", "Protocol"], rows


def _upstreams() -> TableOf:
    from undertone.upstream.base import Upstream
    from undertone.upstream.hf.families import FAMILIES
    from undertone.upstream.load import ACOUSTIC, SHIPPED, shipped

    found: list[tuple[str, Any]] = [
        (name, find_class(name, ACOUSTIC, Upstream)) for name in available(ACOUSTIC, Upstream)
    ]
    rows = [[name, _first_line(cls), str(cls.num_layers)] for name, cls in found]
    for name in shipped():
        geometry = json.loads((SHIPPED / name / "config.json").read_text())
        what = "Pretrained here on LibriSpeech without labels: a small conformer; part of the package"
        rows.append([name, what, str(geometry["num_hidden_layers"] + 1)])
    hub = f"any audio encoder of transformers; computed in PyTorch throughout: {', '.join(sorted(FAMILIES))}"
    return [], ["Upstream", "What it is", "Layers"], [*rows, ["Hub id or folder", hub, "all hidden states"]]


def _heads() -> TableOf:
    from undertone.downstream.head import Head

    rows = []
    for name in available(HEADS, Head):
        cls = find_class(name, HEADS, Head)  # type: ignore[type-abstract]
        predicts = ", ".join(PREDICTED[kind] for kind in cls.kinds) + ("; over time" if "frame" in cls.levels else "")
        rows.append([name, _first_line(cls), cls.needs, predicts])
    return [], ["Head", "What it is", "Input", "Predicts"], rows


def _systems() -> TableOf:
    from undertone.recipes import systems

    rows = []
    for name in systems.available_systems():
        module = importlib.import_module(f"{systems.__name__}.{name}")
        rows.append([name, _first_line(module), ", ".join(getattr(module, "VARIANTS", {}))])
    return [], ["System", "What it is", "Variants"], rows


# ---- The options of one corpus, upstream or head; the settings of one system.


def describe(kind: str, name: str) -> TableOf:
    """What one of them is, and its options with type, default and description, read from its docstring."""
    if kind == "systems":
        return _describe_system(name)
    listing(kind)  # refuses an unknown kind
    if kind == "upstreams" and "/" in name and not name.endswith(".py"):
        return [f"{name}: a Hub model or folder has no options; its settings are in its config.json."], [], []
    cls, prefix = _class(kind, name), PREFIXES[kind]
    text = (inspect.getdoc(cls) or "").split("\nArgs:")[0].split("\nAttributes:")[0].strip()
    rows = [
        [f"{prefix}.{option.name}", allowed(option.annotation), shown(option.default), option.description]
        for option in options_of(cls)
    ]
    titles = [f"{name}: {text}", *(["It has no options."] if not rows else [])]
    return titles, OPTION_HEADER if rows else [], rows


def _class(kind: str, name: str) -> type:
    if kind == "heads":
        from undertone.downstream.head import head_class

        return head_class(name)
    if kind == "corpora":
        from undertone.corpora import OWN_DATA
        from undertone.corpora.corpus import Corpus

        return find_class(name, "undertone.corpora.own" if name in OWN_DATA else "undertone.corpora", Corpus)  # type: ignore[type-abstract]
    from undertone.upstream.base import Upstream
    from undertone.upstream.load import ACOUSTIC

    return find_class(name, ACOUSTIC, Upstream)  # type: ignore[type-abstract]


def _describe_system(name: str) -> TableOf:
    from undertone.recipes.systems import load_system, system_module

    settings = load_system(name)
    return (
        [f"{name}: {(inspect.getdoc(system_module(name)) or '').strip()}"],
        ["Setting", "Value"],
        [[key, shown(value)] for key, value in settings.items()],
    )


# ---- The settings of a run, read from the fields of `RunConfig`.


def setting_tables(group: str | None = None, word: str | None = None) -> list[TableOf]:
    """One table a group: every setting, or those with the word, with its values, default and description.

    A ValueError names an unknown group, or a word that no setting has in its name or description.
    """
    from undertone.training.config import GROUPS

    if group is not None and group not in GROUPS:
        raise ValueError(f"There is no group {group!r} of settings.{nearest(group, GROUPS)}")
    tables: list[TableOf] = []
    for name, cls in GROUPS.items():
        rows = [row for row in _setting_rows(cls) if word is None or word.lower() in f"{row[0]} {row[3]}".lower()]
        if rows and group in (None, name):
            tables.append(([f"{name}: {_first_line(cls)}"], SETTING_HEADER, rows))
    if not tables:
        names = [row[0] for cls in GROUPS.values() for row in _setting_rows(cls)]
        raise ValueError(f"No setting has {word!r} in its name or description.{nearest(str(word), names)}")
    return tables


def _setting_rows(cls: Any) -> Iterator[list[str]]:
    """The rows of a group; of a nested setting one for each NAME, as in `augment.noise`."""
    from pydantic import BaseModel

    from undertone.training.config import NESTED, SHORT

    prefixes = {field: prefix for prefix, field in NESTED.items()}
    short = {field: name for name, field in SHORT.items()}
    for name, field in cls.model_fields.items():
        default = "required" if field.is_required() else shown(field.default)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            for option, inner in field.annotation.model_fields.items():
                values = allowed(inner.annotation, inner.metadata)
                yield [f"{prefixes[name]}.{option}", values, shown(inner.default), str(inner.description)]
        elif name in prefixes:
            values = allowed(get_args(field.annotation)[1])
            yield [f"{prefixes[name]}.NAME", values, default, str(field.description)]
        else:
            shown_name = f"{name} ({short[name]})" if name in short else name
            yield [shown_name, allowed(field.annotation, field.metadata), default, str(field.description)]


def settings_page() -> str:
    """The content of docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "Every setting of a run: `undertone crossval CORPUS key=value ...`, or `key: value` in a file for `--config`.",
        "Later values win; brackets hold a short name. `undertone list settings [WORD] [--group NAME]` shows the same",
        "in the terminal, `undertone list heads attention` the options of a head (also of a corpus or an upstream).",
        "",
        "This page is generated: `undertone list settings --markdown > docs/settings.md`.",
    ]
    for titles, header, rows in setting_tables():
        name, _, text = titles[0].partition(": ")
        lines += ["", f"## {name.capitalize()}", "", text, "", *_markdown_table(header, rows)]
    return "\n".join(lines) + "\n"


def _markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield "|" + " --- |" * len(header)
    for name, *cells in rows:
        name, *short = name.split(" ")  # `num_folds (folds)`
        yield f"| {' '.join([f'`{name}`', *short])} | " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


# ---- Types and values as a user writes them.


def allowed(annotation: Any, limits: Sequence[Any] = ()) -> str:
    """The values that a type annotation and its limits allow: `integer >= 1`, `linear, cosine, constant`."""
    from pydantic import ByteSize

    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        limits = [limit for item in arguments[1:] for limit in (item, *getattr(item, "metadata", ()))]
        return allowed(arguments[0], limits)
    if origin in (Union, types.UnionType):
        return " or ".join("null" if part is types.NoneType else allowed(part, limits) for part in arguments)
    if origin is Literal:
        return ", ".join(map(str, arguments))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"{{name: {allowed(arguments[1])}}}"
    if isinstance(origin, type) and issubclass(origin, Sequence):
        if len(arguments) == 2 and arguments[1] is not Ellipsis:
            return ",".join(map(allowed, arguments))
        return f"list of {allowed(arguments[0])}"
    names: dict[Any, str] = {bool: "true, false", int: "integer", float: "number", str: "text", ByteSize: "bytes"}
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    bounds = [f"{sign} {getattr(limit, key)}" for limit in limits for key, sign in signs.items() if hasattr(limit, key)]
    return " ".join([names.get(annotation, "any value"), *bounds])


def shown(value: Any) -> str:
    """A value as it stands behind `key=`; nothing for an empty list."""
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {shown(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        nested = any(isinstance(item, list | tuple) for item in value)
        return json.dumps(value, separators=(",", ":")) if nested else ",".join(map(shown, value))
    return str(value)
