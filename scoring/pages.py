"""Pages from Jinja templates: HTML with every name of a user's escaped, and Markdown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from undertone.common.files import write_bytes
from undertone.scoring.results import number


def render(template: Path, **content: Any) -> str:
    """Fill in a `.html.j2` or `.md.j2` file; the same content gives the same text, a missing variable is an error.

    HTML is escaped; in Markdown the filter `cell` makes one line in which no part of a text is markup.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(template.parent),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["number"] = lambda value, metric: number(metric, value)
    environment.filters["cell"] = lambda text: re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", " ".join(str(text).split()))
    return environment.get_template(template.name).render(content)


def write_page(path: Path, template: Path, **content: Any) -> Path:
    """`render` a template into a file, atomically; returns its path."""
    write_bytes(path, render(template, **content).encode())
    return path
