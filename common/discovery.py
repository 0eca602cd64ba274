"""Find a corpus, head, upstream or system by name: the module's name is the name, there is no registry.

A name is one of
    `emodb`                  a module of the package that holds the kind (`undertone.corpora.emodb`)
    `./my_head.py`           a Python file of the user's
    `my_pkg.heads:MyHead`    a class in an importable module
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import os
import pkgutil
import re
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, get_type_hints

T = TypeVar("T")


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: the nearest known name, or one that it is a word of, then all."""
    names = sorted(known)
    close = [one for one in names if name in re.split(r"[_-]", one)]
    close = close or difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"{hint} Known: {', '.join(names) or 'none'}."


def available(package: str, base: type) -> list[str]:
    """Names of the modules of `package` that define a subclass of `base`."""
    return sorted(name for name in _modules(package) if _classes(importlib.import_module(f"{package}.{name}"), base))


def _modules(package: str) -> list[str]:
    paths = importlib.import_module(package).__path__
    return [info.name for info in pkgutil.iter_modules(paths) if not info.name.startswith("_")]


def find_class(name: str, package: str, base: type[T]) -> type[T]:
    """The class that `name` (see the module's docstring) stands for.

    Raises:
        ValueError: the name is unknown, the file is missing, or it does not define exactly one subclass of `base`.
    """
    if ":" in name and not name.endswith(".py"):
        module_name, class_name = name.split(":", 1)
        try:
            cls = getattr(importlib.import_module(module_name), class_name)
        except (ImportError, AttributeError, ValueError, TypeError) as error:  # the last two of `:x` and `.x:x`
            raise ValueError(f"Cannot load {name!r}: {error}. Expected my_package.module:ClassName.") from error
        if not (isinstance(cls, type) and issubclass(cls, base)):
            raise ValueError(f"{name!r} is not a subclass of {base.__module__}.{base.__name__}.")
        return cls
    if name.endswith(".py"):
        return _only_class(load_file(Path(name)), base, name)
    if name not in _modules(package) or not _classes(importlib.import_module(f"{package}.{name}"), base):
        known = available(package, base)
        kind = base.__name__.lower()
        raise ValueError(
            f"Unknown {kind} {name!r}.{nearest(name, known)} For your own {kind} give a path such as ./my_{kind}.py, "
            f"or my_package.module:ClassName."
        )
    return _only_class(importlib.import_module(f"{package}.{name}"), base, name)


@dataclass(frozen=True)
class Option:
    """A keyword-only parameter of a constructor: its type, default, and what the docstring says about it."""

    name: str
    annotation: Any
    default: Any
    description: str


def options_of(cls: type) -> list[Option]:
    """The options of a corpus, head or upstream; descriptions come from the `Args:` of its docstrings.

    A constructor with `**options` hands these on to the class that it extends, whose options follow its own.
    """
    described: dict[str, str] = {}
    for text in (text for base in cls.__mro__ for text in (base.__doc__, base.__init__.__doc__) if text):  # type: ignore[misc]
        _, _, arguments = f"{inspect.cleandoc(text)}\n".partition("Args:\n")
        block = re.match(r"(?:(?: {4}.*)?\n)*", arguments)
        for name, words in re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", block[0] if block else "", re.MULTILINE):
            described.setdefault(name, " ".join(words.split()))
    annotations: dict[str, Any] = {}
    with suppress(NameError):  # a name that is imported for type checking alone
        annotations = get_type_hints(cls.__init__)  # type: ignore[misc]
    parameters = inspect.signature(cls).parameters
    found = [
        Option(name, annotations.get(name, parameter.annotation), parameter.default, described.get(name, ""))
        for name, parameter in parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    handed_on = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    return found + (options_of(cls.__mro__[1]) if handed_on else [])


def check_options(kind: str, name: str, cls: type, options: Mapping[str, Any]) -> None:
    """Refuse options that are not keyword-only parameters of the constructor, and see `check_bools`.

    `kind` and `name` are for the message, a ValueError: `Corpus`, `emodb`.
    """
    known = [option.name for option in options_of(cls)]
    for option in options:
        if option not in known:
            raise ValueError(f"{kind} {name!r} has no option {option!r}.{nearest(option, known)}")
    check_bools(kind, name, cls, options)


def check_bools(kind: str, name: str, cls: type, options: Mapping[str, Any]) -> None:
    """Refuse what is no bool for an option that is one: any text would count as true. Other values a class checks."""
    for base in cls.__mro__:
        with suppress(NameError):  # a name that is imported for type checking alone
            for option, annotation in get_type_hints(base.__init__).items():  # type: ignore[misc]
                if annotation is bool and not isinstance(value := options.get(option, True), bool):
                    raise ValueError(f"{kind} {name!r}: {option} must be true or false, got {value!r}.")


def _classes(module: ModuleType, base: type[T]) -> list[type[T]]:
    members = (value for value in vars(module).values() if isinstance(value, type))
    return [cls for cls in members if issubclass(cls, base) and cls is not base and cls.__module__ == module.__name__]


def _only_class(module: ModuleType, base: type[T], name: str) -> type[T]:
    public = [cls for cls in _classes(module, base) if not cls.__name__.startswith("_")]
    if len(public) != 1:
        found = ", ".join(cls.__name__ for cls in public) or "none"
        raise ValueError(f"{name!r} must define exactly one public subclass of {base.__name__}; found: {found}.")
    return public[0]


def load_file(path: Path) -> ModuleType:
    """A Python file as a module; loaded once, however often it is requested."""
    if not os.path.isfile(path):  # also False for an invalid file name
        raise ValueError(f"No such file: {path}. Give the path of a Python file that defines the class.")
    name = f"undertone_user_{path.stem}_{abs(hash(str(path.resolve())))}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"Cannot read {path} as Python.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
