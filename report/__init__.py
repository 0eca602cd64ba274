"""Finished runs as tables, figures and pages; called, `undertone.report(run)`, it writes those of one run."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType


class _Report(ModuleType):
    """The package as the function that users call: both have the name `undertone.report`."""

    def __call__(self, run: str | Path) -> Path:
        """Write RUN/report.html and RUN/report.md; returns the HTML page's path.

        Example:
            >>> import undertone
            >>> undertone.report("runs/quickstart").name
            'report.html'
        """
        from undertone.report.report import write_report

        return write_report(Path(run))


sys.modules[__name__].__class__ = _Report
