"""Write README's result tables from the results.json files that the runs beside them left in docs/results.

python benchmarks/tables.py            # rewrite README.md
python benchmarks/tables.py --check    # exit 1 if README.md says something else
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end of table -->)", re.DOTALL)
HEADER = (
    "| upstream | head | UAR | 95 % interval | WA | gender UAR | trained weights |\n|---|---|---|---|---|---|---|\n"
)


def row(results: dict[str, Any]) -> str:
    """One line of a table: pooled scores in percent."""
    emotion, gender = results["pooled"]["emotion"], results["pooled"].get("gender", {})
    low, high = results["ci95"]["emotion"]["uar"]
    weights = {"random": " (random weights)", "none": "", "pretrained": ""}[results["upstream_weights"]]
    cells = [
        f"{Path(results['upstream']).name.removeprefix('random-')}{weights}",
        results["head"],
        f"**{100 * emotion['uar']:.1f}**",
        f"{100 * low:.1f} – {100 * high:.1f}",
        f"{100 * emotion['wa']:.1f}",
        f"{100 * gender['uar']:.1f}" if gender else "–",
        f"{results['cost']['trained_parameters']:,}",
    ]
    return "| " + " | ".join(cells) + " |\n"


def chance(results: dict[str, Any]) -> str:
    """The line of a table that knows nothing: 1 / classes, and the share of the largest class."""
    emotion, gender = results["chance"]["emotion"], results["chance"].get("gender", {})
    cells = ["chance", "–", f"{100 * emotion['uar']:.1f}", "–", f"{100 * emotion['wa']:.1f}"]
    return "| " + " | ".join([*cells, f"{100 * gender['uar']:.1f}" if gender else "–", "–"]) + " |\n"


def table(corpus: str) -> str:
    """The table of all runs on a corpus, the best first."""
    runs = [json.loads(path.read_text()) for path in sorted((ROOT / "docs" / "results").glob(f"{corpus}-*.json"))]
    runs.sort(key=lambda results: -results["pooled"]["emotion"]["uar"])
    return HEADER + "".join(map(row, runs)) + chance(runs[0])


def main() -> None:
    """Rewrite or check README.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    readme = ROOT / "README.md"
    text = readme.read_text()
    made = BLOCK.sub(lambda match: match[1] + table(match[2]) + match[3], text)
    if arguments.check:
        sys.exit(
            0 if made == text else "README.md's tables are not those of docs/results. Run python benchmarks/tables.py"
        )
    readme.write_text(made)


if __name__ == "__main__":
    main()
