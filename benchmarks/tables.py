"""Write the result tables of README and docs from the files in docs/results, which runs and benchmarks wrote.

python benchmarks/tables.py            # rewrite README.md and pages of docs
python benchmarks/tables.py --check    # exit 1 if one of them differs
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from speed_tables import ROOT, SPEED_TABLES, markdown

from undertone.recipes.systems import system_module
from undertone.scoring.results import probe_scores

PAGES = (
    ROOT / "README.md",
    *(ROOT / "docs" / f"{name}.md" for name in ("systems", "statistics", "speed", "together", "pretraining")),
)
BLOCK = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end of table -->)", re.DOTALL)
HEADER = (
    "| upstream | head | UAR | 95 % interval | WA | gender UAR | trained weights |\n|---|---|---|---|---|---|---|\n"
)
UPSTREAMS = ("fbank", "mfcc", "random")  # rows of the tables of upstreams; every other file is a system's
CORPORA = ("emodb", "ravdess")
# What stands after `--system` in the command of docs/results/CORPUS-NAME.json; of any other NAME, the name itself.
SYSTEMS = {
    "functionals-svm": "functionals",
    "functionals-logistic": "functionals head=logistic",
    "compare2016-svm": "functionals upstream=compare2016",
    "parthasarathy2020-small": "parthasarathy2020:small tasks=emotion lr=1e-3",
    "undertone": "undertone",
    "crnn-small": "crnn:small",
    "li2019-small": "li2019:small",
    "transformer-small": "transformer:small",
    "huang2017-small": "huang2017:small",
    "jiang2022-small": "jiang2022:small",
    "trigeorgis2016-small": "trigeorgis2016:small tasks=emotion",
}


def row(results: dict[str, Any]) -> str:
    """One line of a table: pooled scores in percent."""
    emotion, gender = results["pooled"]["emotion"], results["pooled"].get("gender", {})
    weights = {"random": " (random weights)", "none": "", "pretrained": ""}[results["upstream_weights"]]
    cells = [
        f"{Path(results['upstream']).name.removeprefix('random-')}{weights}",
        results["head"],
        f"**{100 * emotion['uar']:.1f}**",
        interval(results["ci95"]["emotion"]["uar"]),
        f"{100 * emotion['wa']:.1f}",
        f"{100 * gender['uar']:.1f}" if gender else "–",
        f"{results['cost']['trained_parameters']:,}",
    ]
    return "| " + " | ".join(cells) + " |\n"


def interval(ends: list[float | None], scale: int = 100) -> str:
    """`69.9 – 81.2` in percent, `0.699 – 0.812` with scale 1; a dash where no interval can be given."""
    low, high = ends
    digits = 1 if scale == 100 else 3
    return "–" if low is None or high is None else f"{scale * low:.{digits}f} – {scale * high:.{digits}f}"


def difference(row: dict[str, Any]) -> list[str]:
    """Points, 95 % interval and p of a row of compare.json."""
    low, high = (f"{100 * bound:+.1f}" for bound in row["ci95"])
    p = "< 0.0001" if row["p"] < 0.0001 else f"{row['p']:.2g}"
    return [f"{100 * row['difference']:+.1f}", f"{low} to {high}", p]


def chance(results: dict[str, Any]) -> str:
    """The chance row of a table: 1 / classes, and the fraction of the largest class."""
    emotion, gender = results["chance"]["emotion"], results["chance"].get("gender", {})
    cells = ["chance", "–", f"{100 * emotion['uar']:.1f}", "–", f"{100 * emotion['wa']:.1f}"]
    return "| " + " | ".join([*cells, f"{100 * gender['uar']:.1f}" if gender else "–", "–"]) + " |\n"


def runs_on(corpus: str) -> dict[str, dict[str, Any]]:
    """{NAME: results} of the files CORPUS-NAME.json."""
    paths = sorted((ROOT / "docs" / "results").glob(f"{corpus}-*.json"))
    return {path.stem.removeprefix(f"{corpus}-"): json.loads(path.read_text()) for path in paths}


def table(corpus: str) -> str:
    """The table of the upstreams on a corpus, the best first."""
    runs = [results for name, results in runs_on(corpus).items() if name in UPSTREAMS]
    runs.sort(key=lambda results: -results["pooled"]["emotion"]["uar"])
    return HEADER + "".join(map(row, runs)) + chance(runs[0])


def systems_table() -> str:
    """A row for each system whose training was carried to its end, the best on the first corpus first."""
    runs: dict[str, dict[str, Any]] = {}
    for corpus in CORPORA:
        for name, results in runs_on(corpus).items():
            if name not in UPSTREAMS:
                runs.setdefault(name, {})[corpus] = results
    scored = sorted(runs.items(), key=lambda run: [-_uar(run[1].get(corpus)) for corpus in CORPORA])
    names = ("EmoDB UAR", "95 % interval", "WA", "RAVDESS UAR", "95 % interval", "WA")
    header = ["after `--system`", *names, "weights"]
    lines = [header, ["---"] * len(header), *(system_row(name, both) for name, both in scored)]
    return markdown(lines)


def _uar(results: dict[str, Any] | None) -> float:
    return results["pooled"]["emotion"]["uar"] if results else 0.0


def system_row(name: str, runs: dict[str, dict[str, Any]]) -> list[str]:
    """The cells of a system: scores on both corpora, and its size."""
    cells = [f"`{SYSTEMS.get(name, name)}`"]
    for corpus in CORPORA:
        if corpus not in runs:
            cells += ["–"] * 3
            continue
        emotion = runs[corpus]["pooled"]["emotion"]
        uar, wa = (f"{100 * emotion[metric]:.1f}" for metric in ("uar", "wa"))
        cells += [f"**{uar}**", interval(runs[corpus]["ci95"]["emotion"]["uar"]), wa]
    parameters = next(runs[corpus]["cost"]["parameters"] for corpus in CORPORA if corpus in runs)
    return [*cells, f"{parameters:,}"]


def best_table() -> str:
    """Our acoustic systems against openSMILE's features with a linear SVM, paired on the same folds."""
    header = [
        "corpus",
        "openSMILE ComParE 2016, SVM",
        "system",
        "UAR",
        "difference",
        "95 % interval",
        "p",
        "detectable",
    ]
    lines = [header, ["---"] * len(header)]
    for corpus in (*CORPORA, "nemo"):
        found = json.loads((ROOT / "docs" / "results" / f"compare-{corpus}.json").read_text())
        for row in found["tasks"]["emotion"]:
            if row["metric"] == "uar":
                system = found["runs"][row["run"]]["path"].removeprefix(f"{corpus}-")
                cells = [corpus, f"{100 * row['baseline']:.1f}", f"`{system}`", f"**{100 * row['value']:.1f}**"]
                lines.append([*cells, *difference(row), f"{100 * row['detectable']:.1f}"])
    return markdown(lines)


def curve_table(name: str) -> str:
    """The arms of a curve at each fraction of the labels."""
    curve = json.loads((ROOT / "docs" / "results" / f"{name}.json").read_text())
    arms = [key for key in curve["rows"][0] if key not in ("share", "labels")]
    header = ["labels", *(cell for arm in arms for cell in (f"{arm.replace('_', '-')}: UAR", "95 % interval"))]
    lines = [header, ["---"] * len(header)]
    for row in curve["rows"]:
        cells = [f"{row['share']:.0%}"]
        for arm in arms:
            cells += [f"**{100 * row[arm]['uar']:.1f}**", interval(row[arm]["ci95"])]
        lines.append(cells)
    return markdown(lines)


PRETRAINED = {
    "fbank": ("`fbank`", "linear"),
    "random": ("`--size tiny`, random weights", "linear"),
    "minutes": ("the same, 8 minutes on LibriSpeech, the regression weighed 10 instead of 3", "linear"),
    "tiny": ("`tiny`, trained on LibriSpeech", "linear"),
    "all": ("that of three corpora", "linear"),
    "contours": ("`contours`, without copies", "logistic"),
    "joined-minutes": ("`contours` and that of 8 minutes, `fusion=concat`", "logistic"),
    "joined": ("`contours` and `tiny`, `fusion=concat`", "logistic"),
    "joined-all": ("`contours` and that of three corpora, `fusion=concat`", "logistic"),
}
"""Names of the runs in docs/results/tiny: upstream and head."""
SCORED = {"emodb": "EmoDB", "ravdess": "RAVDESS", "nemo": "nEMO"}


def pretrained_table() -> str:
    """What the upstreams that were trained from nothing score, beside features and random weights."""
    header = ["upstream", "head", *(f"UAR, {title} | 95 % interval" for title in SCORED.values())]
    lines = [header, ["---"] * (len(header) + len(SCORED))]
    for name, what in PRETRAINED.items():
        cells = list(what)
        for corpus in SCORED:
            path = ROOT / "docs" / "results" / "tiny" / f"{corpus}-{name}.json"
            found = json.loads(path.read_text()) if path.is_file() else None
            score = found and f"**{100 * found['pooled']['emotion']['uar']:.1f}**"
            cells += [score or "–", interval(found["ci95"]["emotion"]["uar"]) if found else "–"]
        lines.append(cells)
    return markdown(lines)


def pretrained_differences() -> str:
    """Paired differences of those runs."""
    lines = [["corpus", "run", "against", "UAR, points", "95 % interval", "p"], ["---"] * 6]
    for path in sorted((ROOT / "docs" / "results" / "tiny").glob("compare-*.json")):
        found = json.loads(path.read_text())
        names = [run["path"].removeprefix(f"{found['corpus']}-") for run in found["runs"]]
        for row in found["tasks"]["emotion"]:
            if row["metric"] == "uar":
                lines.append([SCORED[found["corpus"]], names[row["run"]], names[0], *difference(row)])
    return markdown(lines)


def draw_layers() -> None:
    """The layer weights that the linear head learned on EmoDB, mean over the folds."""
    from undertone.scoring.plots import layer_weights_png

    folds = json.loads((ROOT / "docs" / "results" / "tiny" / "emodb-tiny.json").read_text())["folds"]
    columns = zip(*(fold["layer_weights"] for fold in folds), strict=True)
    weights = [sum(column) / len(folds) for column in columns]
    (ROOT / "docs" / "images" / "tiny-layers.png").write_bytes(layer_weights_png(weights))


def coverage_table() -> str:
    """How often intervals hold the truth, and equal systems are called different, over simulated corpora."""
    header = ["simulated corpora", "speakers", "UAR", "WA", "macro-F1", "equal called different"]
    header += ["half-width of UAR", "bootstrap over speakers", "bootstrap over utterances"]
    lines = [header, ["---"] * len(header)]
    for row in json.loads((ROOT / "docs" / "results" / "coverage.json").read_text())["rows"]:
        keys = ("uar", "wa", "macro_f1", "different", "half_width", "bootstrap_speakers", "bootstrap_utterances")
        lines.append([row["kind"], str(row["speakers"]), *(f"{100 * row[key]:.1f}" for key in keys)])
    return markdown(lines)


def matrix_table(system: str) -> str:
    """The train x test matrix of a system, from its crosscorpus.json."""
    found = json.loads((ROOT / "docs" / "results" / f"crosscorpus-{system}.json").read_text())
    lines = [["train", *(f"test {name}" for name in found["corpora"])], ["---"] * (len(found["corpora"]) + 1)]
    for train, cells in found["cells"].items():
        row = [cells.get(test) for test in found["corpora"]]
        lines.append(
            [train, *(f"**{100 * one['value']:.1f}** ({interval(one['ci95'])})" if one else "–" for one in row)]
        )
    return markdown(lines)


def invariance_table() -> str:
    """What adversaries for speaker and corpus change, from the rows of `ablate invariant`."""
    rows = ("plain", "speaker", "corpus", "speaker-corpus")
    runs = {name: json.loads((ROOT / "docs" / "results" / f"invariant-{name}.json").read_text()) for name in rows}
    corpora = list(runs["plain"]["per_corpus"])
    header = ["adversaries", "UAR, all", "95 % interval", *(f"UAR, {name}" for name in corpora), "probe: speaker"]
    lines = [[*header, "probe: corpus"], ["---"] * (len(header) + 1)]
    for name, results in runs.items():
        each = [f"{100 * results['per_corpus'][one]['scores']['emotion']['uar']:.1f}" for one in corpora]
        found = probe_scores(results)
        probes = [
            f"{100 * found[column][0]:.1f} ({100 * found[column][1]:.1f})" if column in found else "–"
            for column in ("speaker", "corpus")
        ]
        pooled, ends = results["pooled"]["emotion"]["uar"], interval(results["ci95"]["emotion"]["uar"])
        lines.append(
            [name.replace("-", ", ").replace("plain", "none"), f"**{100 * pooled:.1f}**", ends, *each, *probes]
        )
    return markdown(lines)


def robustness_table(prefix: str, names: Sequence[str]) -> str:
    """UAR of runs on EmoDB through rooms, noise, codecs and bands, from their robustness.json."""
    folder = ROOT / "docs" / "results" / "robustness"
    runs = {name: json.loads((folder / f"emodb-{prefix}{name}.json").read_text()) for name in names}
    found = {
        name: {(one["kind"], one["name"]): one["metrics"]["uar"] for one in run["conditions"]}
        for name, run in runs.items()
    }
    lines = [["EmoDB, test utterances", *(f"`{name}`" for name in runs)], ["---"] * (1 + len(runs))]
    for kind, condition in next(iter(found.values())):
        scores = [f"{100 * run[kind, condition]:.1f}" for run in found.values()]
        lines.append(["as recorded" if kind == "clean" else f"{kind}: {condition}", *scores])
    return markdown(lines)


def ablation_table(name: str) -> str:
    """The rows of an ablation that were run, docs/results/ablation/SYSTEM-CORPUS/ROW.json, beside the published."""
    folder = ROOT / "docs" / "results" / "ablation" / name
    runs = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    rows = system_module(name.split("-")[0]).ABLATION
    unknown = sorted(runs.keys() - {row.name for row in rows})
    if not runs or unknown:
        sys.exit(f"{folder} has {'rows of no ablation: ' + ', '.join(unknown) if unknown else 'no rows'}.")
    tasks = list(dict.fromkeys(task for run in runs.values() for task in run["pooled"]))
    names = ["emotion", "gender"] if "emotion" in tasks else ["arousal", "valence", "dominance"]
    metric, scale = ("uar", 100) if "emotion" in tasks else ("ccc", 1)
    shown = [task for task in names if task in tasks]
    lines = [["row", *(f"{metric.upper()}, {task} | 95 % interval" for task in shown), "published"]]
    lines.append(["---"] * (2 + 2 * len(shown)))
    for row in rows:
        if row.name in runs:
            run = runs[row.name]
            cells = [score_cells(run, task, metric, scale) if task in run["pooled"] else ["–"] * 2 for task in shown]
            lines.append([f"`{row.name}`", *(cell for pair in cells for cell in pair), row.published or "–"])
    return markdown(lines)


def score_cells(run: dict[str, Any], task: str, metric: str, scale: int) -> list[str]:
    """A pooled score and its interval, in percent (scale 100) or as they are (1)."""
    score = scale * run["pooled"][task][metric]
    return [f"**{score:.1f}**" if scale == 100 else f"**{score:.3f}**", interval(run["ci95"][task][metric], scale)]


TABLES: dict[str, Callable[[], str]] = SPEED_TABLES | {
    "systems": systems_table,
    "best": best_table,
    "unlabelled": partial(curve_table, "unlabelled-emodb"),
    "labels": partial(curve_table, "labels-emodb"),
    "pretrained": pretrained_table,
    "pretrained-differences": pretrained_differences,
    "coverage": coverage_table,
    "crosscorpus-functionals": partial(matrix_table, "functionals"),
    "crosscorpus-contours": partial(matrix_table, "contours"),
    "invariant": invariance_table,
    "robustness": partial(robustness_table, "", ("contours", "undertone")),
    "robustness-huang2017": partial(
        robustness_table, "huang2017-", [row.name for row in system_module("huang2017").ABLATION]
    ),
}


def table_of(name: str) -> str:
    """The table that a page calls so: one of `TABLES`, `ablation-SYSTEM-CORPUS`, or a corpus'."""
    if name.startswith("ablation-"):
        return ablation_table(name.removeprefix("ablation-"))
    return TABLES.get(name, partial(table, name))()


def main() -> None:
    """Rewrite or check the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    for page in PAGES:
        text = page.read_text()
        made = BLOCK.sub(lambda match: match[1] + table_of(match[2]) + match[3], text)
        if not arguments.check:
            page.write_text(made)
        elif made != text:
            sys.exit(f"{page.name}'s tables are not those of docs/results. Run python benchmarks/tables.py")
    if not arguments.check:
        draw_layers()


if __name__ == "__main__":
    main()
