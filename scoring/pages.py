"""Pages from Jinja templates: HTML with every name of a user's escaped, and Markdown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from undertone.scoring.results import number


def render(template: Path, **content: Any) -> str:
    """Fill in a template; the same content gives the same text.

    Args:
        template: a `.html.j2` or `.md.j2` file. HTML is escaped; in Markdown the filter `cell` escapes.
        content: the variables of the template; a missing one is an error.
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
    environment.filters["cell"] = _cell
    return environment.get_template(template.name).render(content)


def _cell(text: object) -> str:
    """One line of Markdown in which no part of `text` is markup, inside and outside of tables."""
    return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", " ".join(str(text).split()))
