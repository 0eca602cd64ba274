"""Pages from the templates of this folder: no script, nothing from outside, everything of a user's escaped."""

from __future__ import annotations

import re
from typing import Any

from undertone.scoring.results import number


def render(template: str, **content: Any) -> str:
    """The page that a template makes of `content`; the same content gives the same text.

    Args:
        template: file name in `report/`.
        content: what the template names; a name without content is an error.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("undertone.report", "."),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["number"] = lambda value, metric: number(metric, value)
    environment.filters["cell"] = _cell
    return environment.get_template(template).render(content)


def _cell(text: object) -> str:
    """One line of Markdown in which nothing of `text` is markup, in a table as elsewhere."""
    return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", " ".join(str(text).split()))
