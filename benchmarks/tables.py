"""Write the result tables of README and docs from the files in docs/results, which runs and benchmarks wrote.

python benchmarks/tables.py            # rewrite README.md and pages of docs
python benchmarks/tables.py --check    # exit 1 if one of them differs
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from undertone.recipes.systems import system_module
from undertone.scoring.results import probe_scores

ROOT = Path(__file__).resolve().parents[1]
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


def interval(ends: list[float | None]) -> str:
    """`69.9 – 81.2`; a dash where no interval can be given."""
    low, high = ends
    return "–" if low is None or high is None else f"{100 * low:.1f} – {100 * high:.1f}"


def markdown(lines: list[list[str]]) -> str:
    """A table of these cells, the header and its rule first."""
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


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
    """Our best acoustic system and openSMILE's features with a linear SVM, paired on the same folds."""
    header = ["corpus", "openSMILE ComParE 2016, SVM", "`contours`", "difference", "95 % interval", "p", "detectable"]
    lines = ["| " + " | ".join(header) + " |\n|" + "---|" * len(header) + "\n"]
    for corpus in CORPORA:
        found = json.loads((ROOT / "docs" / "results" / f"compare-{corpus}.json").read_text())
        row = next(row for row in found["tasks"]["emotion"] if row["metric"] == "uar")
        cells = [corpus, f"{100 * row['baseline']:.1f}", f"**{100 * row['value']:.1f}**", *difference(row)]
        cells.append(f"{100 * row['detectable']:.1f}" if "detectable" in row else "–")  # not in an earlier version's
        lines.append("| " + " | ".join(cells) + " |\n")
    return "".join(lines)


def systems_timing() -> str:
    """Every acoustic preset at both sizes: what 20 updates cost."""
    lines = ["| system | weights | clips an update | 20 updates, s | real-time factor |\n|---|---|---|---|---|\n"]
    for row in json.loads((ROOT / "docs" / "results" / "speed" / "systems.json").read_text())["rows"]:
        cells = [f"`{row['system']}`", f"{row['parameters']:,}", str(row["batch_size"])]
        cells += [f"{row['seconds_of_20_steps']:.1f}", f"{row['real_time_factor']:.4f}"]
        lines.append("| " + " | ".join(cells) + " |\n")
    return "".join(lines)


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


def extraction(found: Any) -> list[list[str]]:
    """The row of an extraction, from benchmarks/extraction.py."""
    threads = found["machine"]["threads"]
    precision = "" if found["precision"] == "no" else f" in {found['precision']}"
    what = (
        f"extraction{precision}, {found['sounds']:,} clips of {' and '.join(found['corpora'])}, {threads} thread"
        + "s" * (threads > 1)
    )
    ours, bare = (f"{found[key]:.1f} audio s/s" for key in ("ours_audio_s_per_s", "bare_audio_s_per_s"))
    return [[what, ours, f"{bare}, bare transformers", f"{found['ratio']:.2f}", "≥ 1.0"]]


def probe(found: Any) -> list[list[str]]:
    what = f"SUPERB probe, {found['runs']} trainings x {found['updates']:,} updates, {found['clips']:,} clips"
    aim = "≤ 0.15" if found["updates"] > 5000 else "≤ 0.10"
    bare = f"{found['extraction_s']:.0f} s, its extraction"
    return [[what, f"{found['trainings_s']:.0f} s", bare, f"{found['ratio']:.3f}", aim]]


def frames_training(found: Any) -> list[list[str]]:
    what, bare = f"attention head on frames, {found['folds']} folds x {found['epochs']} epochs", found["extraction_s"]
    store, again = (f"{found[key]:.2f} s" for key in ("epoch_from_store_s", "epoch_recomputing_s"))
    times = f"1/{1 / found['epoch_ratio']:.0f}"
    return [
        [what, f"{found['trainings_s']:.0f} s", f"{bare:.0f} s, its extraction", f"{found['ratio']:.2f}", "≤ 1.0"],
        [f"an epoch of {found['epoch_clips']} clips from the store", store, f"{again}, recomputing", times, "≤ 1/100"],
    ]


def step_time(found: Any) -> list[list[str]]:
    rows = []
    for row in found:
        bare = "bare forward" if row["mode"] == "frozen" else "bare forward + backward"
        what = f"an update, {row['mode']} ({row['peak_bytes'] / 2**30:.2f} GiB at its peak)"
        rows.append([what, f"{row['ours_s']:.3f} s", f"{row['bare_s']:.2f} s, {bare}", f"{row['ratio']:.4f}", "≤ 1.05"])
    return rows


def memory(found: Any) -> list[list[str]]:
    small, all_of_it = found
    sizes = f"{small['store_bytes'] / 1e9:.1f} GB, {small['allowance_bytes'] / 1e9:.1f} GB of it in memory"
    peak = f"{small['peak_bytes_above_model'] / 1e9:.2f} GB above the model"
    times = f"{small['epoch_s'] / all_of_it['epoch_s']:.2f}"
    return [[f"training from a store of {sizes}", peak, "an epoch with all in memory", times, "≤ 2 GB"]]


def cost_of_use(found: Any) -> list[list[str]]:
    first = f"{found['bare_first_s']:.2f} s, bare transformers"
    return [
        ["load and first prediction", f"{found['added_first_s']:+.2f} s", first, "–", "≤ +0.3 s"],
        ["a warm call", "–", "bare transformers", f"{found['warm_ratio']:.2f}", "≤ 1.05"],
        ["predict over a folder", "–", "bare transformers", f"{found['share_of_bare']:.2f}", "≥ 0.95"],
        ["predict over a folder", "–", "the model alone, audio in memory", f"{found['share_of_model']:.2f}", "≥ 0.95"],
    ]


# A benchmark's file, named as the function or with more after a dash, -> rows of what, ours, held against, ratio, aim.
SPEED = (extraction, probe, frames_training, step_time, memory, cost_of_use)


def speed_table() -> str:
    """The table of all benchmarks whose files are in docs/results/speed."""
    lines = ["| what | ours | held against | ratio | aim |\n|---|---|---|---|---|\n"]
    for rows in SPEED:
        for path in sorted((ROOT / "docs" / "results" / "speed").glob(f"{rows.__name__}*.json")):
            lines += ["| " + " | ".join(row) + " |\n" for row in rows(json.loads(path.read_text()))]
    return "".join(lines)


def commands_table() -> str:
    """What a user types, beside what one would type or write instead, with the error of the fast path."""
    folder = ROOT / "docs" / "results" / "speed"
    read = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    one, two, int8, whole, frames = (
        read[name] for name in ("extraction-1", "extraction-2", "extraction-int8", "probe-iemocap", "frames_training")
    )
    steps, use, theirs, smile = ({row["mode"]: row for row in read["step_time"]}, *(read[name] for name in REST))
    ours = theirs["ours_extraction_s"] + theirs["ours_trainings_s"]
    days = theirs["trainings"] * theirs["updates"] * theirs["s3prl_update_s"] / 86400
    crossval = "`undertone crossval CORPUS --upstream ID"
    exact, alone = "states move by < 1e-5", "bare transformers, a file at a time"
    script = f"openSMILE and scikit-learn, a script: {smile['script_s']:.0f} s"
    epoch = f"an epoch of {frames['epoch_clips']} clips"
    rows = [
        ["`undertone extract CORPUS --upstream ID`", f"{two['ours_audio_s_per_s']:.1f} audio s/s",
         f"bare transformers, nothing stored: {two['bare_audio_s_per_s']:.1f}", f"{two['ratio']:.2f}", exact],
        ["the same, 1 thread", f"{one['ours_audio_s_per_s']:.1f} audio s/s",
         f"bare transformers: {one['bare_audio_s_per_s']:.1f}", f"{one['ratio']:.2f}", exact],
        ["the same, 1 thread, `mixed_precision=int8`", f"{int8['ours_audio_s_per_s']:.1f} audio s/s",
         f"bare transformers: {int8['bare_audio_s_per_s']:.1f}", f"{int8['ratio']:.2f}", "2 – 4 % of a frame"],
        ["`undertone crossval emodb --system superb`, 25 trainings",
         f"{ours / 60:.0f} – {theirs['ours_other_run_s'] / 60:.0f} min",
         f"s3prl 0.4.18, 15.06 s an update: {days:.0f} days (estimate)*",
         f"{days * 86400 / theirs['ours_other_run_s']:,.0f} – {days * 86400 / ours:,.0f}",
         "means are exact; float32, 1e-5"],
        ["the same, IEMOCAP-sized, after its extraction", f"{whole['trainings_s']:.0f} s",
         f"its extraction: {whole['extraction_s']:.0f} s", f"{whole['extraction_s'] / whole['trainings_s']:.1f}",
         "the same"],
        [f"{crossval} --head attention`, {epoch}", f"{frames['epoch_from_store_s']:.2f} s",
         f"recomputing the states: {frames['epoch_recomputing_s']:.1f} s", f"{1 / frames['epoch_ratio']:.0f}",
         "float16 store: 7e-5 relative"],
        [f"{crossval} --mode lora`, an update of 8", *update_cells(steps["lora"]), "none"],
        [f"{crossval} --mode finetune`, an update of 8", *update_cells(steps["finetune"]), "none"],
        ["`undertone predict MODEL FOLDER`", "–", alone, f"{use['share_of_bare']:.2f}", exact],
        ["`undertone crossval emodb --system functionals --upstream egemaps`", f"{smile['ours_s']:.0f} s",
         script, f"{smile['script_s'] / smile['ours_s']:.2f}", "none"],
        ["the same again, from the store", f"{smile['again_s']:.0f} s", f"the script again: {smile['script_s']:.0f} s",
         f"{smile['script_s'] / smile['again_s']:.1f}", "none"],
    ]  # fmt: skip
    rows += gpu_rows(read["gpu"]) if "gpu" in read else []
    header = ["what you type", "it takes", "beside it", "times as fast", "error of the fast path"]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in [header, ["---"] * len(header), *rows])


REST = ("cost_of_use", "s3prl", "opensmile_svm")


def update_cells(row: Any) -> list[str]:
    """Ours, the bare one and the ratio of an update."""
    bare = f"bare forward + backward, no optimiser: {row['bare_s']:.1f} s"
    return [f"{row['ours_s']:.1f} s", bare, f"{1 / row['ratio']:.2f}"]


def gpu_rows(found: Any) -> list[list[str]]:
    """The rows of benchmarks/gpu.py that commands have, on its card."""
    card, rows = found["machine"]["device"], {row["check"]: row for row in found["rows"] if row.get("passed")}
    lines = []
    for key, one in rows.get("extraction", {}).get("figures", {}).items():
        if "audio_s_per_s" in one:
            name, dtype, kind = key.split(", ")
            error = rows["extraction"]["figures"][f"{name}, error of bf16"]["mean"] if dtype == "bfloat16" else 0.0
            speed, share = f"{one['audio_s_per_s']:.0f} audio s/s", f"{100 * one['share_of_peak']:.0f} % of"
            what = f"`undertone extract`, {name}, {dtype}, {kind}, {card}"
            peak = f"{share} {one['peak_tflops']:.0f} TFLOP/s of matrix products there"
            lines.append([what, speed, peak, "–", f"{error:.1e} a frame" if error else "–"])
    for key, seconds in rows.get("superb", {}).items():
        if key.endswith("_updates_s"):
            what = (
                f"`undertone crossval iemocap --system superb`, {key.split('_')[0]} updates, decoding included, {card}"
            )
            lines.append([what, f"{seconds:.0f} s", "–", "–", "means are exact; float32, 1e-5"])
    return lines


def estimates_table() -> str:
    """What the bench said, and what the runs took."""
    found = json.loads((ROOT / "docs" / "results" / "speed" / "estimates.json").read_text())
    lines = ["| training | epochs | the bench's estimate | the run | ratio |\n|---|---|---|---|---|\n"]
    for row in found["rows"]:
        cells = [row["training"], str(row["epochs"]), f"{row['estimate_s']:.1f} s", f"{row['run_s']:.1f} s"]
        lines.append("| " + " | ".join([*cells, f"{row['ratio']:.2f}"]) + " |\n")
    return "".join(lines)


def dtype_table() -> str:
    """What each precision of the store costs and loses."""
    found = json.loads((ROOT / "docs" / "results" / "speed" / "store_dtypes.json").read_text())
    lines = ["| dtype | GB an hour | largest error | relative, outliers | relative, others |\n|---|---|---|---|---|\n"]
    for row in found["dtypes"]:
        errors = [f"{row[key]:.1e}" for key in ("max_error", "relative_error_outliers", "relative_error_others")]
        lines.append(f"| {row['dtype']} | {row['bytes_per_hour'] / 1e9:.2f} | " + " | ".join(errors) + " |\n")
    return "".join(lines)


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


def stacked_update_table() -> str:
    """Where an update of the SUPERB sweep goes, from benchmarks/stacked_update.py."""
    found = json.loads((ROOT / "docs" / "results" / "speed" / "stacked_update.json").read_text())["ms_an_update"]
    parts = {
        "gradients: products with the projection and the states": found["products"],
        "gradients: softmax, losses, norms, layer sum": found["gradients"] - found["products"],
        "AdamW, one fused pass over weights, gradients and moments": found["AdamW"],
        "gathering the batch": found["batch"],
        "dev, once in 1,000 updates": found["dev"],
    }
    parts["order of the batches, targets, rates, checks"] = found["all"] - sum(parts.values())
    rows = [[name, f"{value:.1f}", f"{100 * value / found['all']:.0f}"] for name, value in parts.items()]
    return markdown([["part", "ms", "%"], ["---"] * 3, *rows])


def scale_table() -> str:
    """Cost of commands against hours of audio, from benchmarks/scale.py."""
    found = json.loads((ROOT / "docs" / "results" / "speed" / "scale.json").read_text())
    sizes, growth = found["sizes"], found["growth"]
    header = ["command", *(f"processor s, {size} h" for size in sizes), "an hour more", "last rise / rises before"]
    lines = [[*header, *(f"peak MB, {size} h" for size in (min(sizes, key=float), max(sizes, key=float)))]]
    lines += [["---"] * len(lines[0]), *([f"`{name}`"] for name in growth)]
    for line, (name, rises) in zip(lines[2:], growth.items(), strict=True):
        line += [f"{figures[name]['cpu_s']:.1f}" for figures in sizes.values()]
        line += [f"{rises['cpu_s']['an_hour']:.1f} s", f"{rises['cpu_s']['last_over_first']:.2f}"]
        line += [f"{sizes[size][name]['peak_mb']:,.0f}" for size in (min(sizes, key=float), max(sizes, key=float))]
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


def robustness_table() -> str:
    """UAR of runs on a corpus through rooms, noise, codecs and bands, from their robustness.json."""
    folder = ROOT / "docs" / "results" / "robustness"
    runs = {name: json.loads((folder / f"emodb-{name}.json").read_text()) for name in ("contours", "undertone")}
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
    lines = [["row", "UAR", "95 % interval", "WA", "published"], ["---"] * 5]
    for row in system_module(name.split("-")[0]).ABLATION:
        if row.name in runs:
            pooled, ends = runs[row.name]["pooled"]["emotion"], runs[row.name]["ci95"]["emotion"]["uar"]
            scores = [f"**{100 * pooled['uar']:.1f}**", interval(ends), f"{100 * pooled['wa']:.1f}"]
            lines.append([row.name, *scores, row.published or "–"])
    return markdown(lines)


TABLES: dict[str, Callable[[], str]] = {
    "speed": speed_table,
    "commands": commands_table,
    "estimates": estimates_table,
    "store_dtypes": dtype_table,
    "systems": systems_table,
    "best": best_table,
    "systems_timing": systems_timing,
    "stacked_update": stacked_update_table,
    "unlabelled": partial(curve_table, "unlabelled-emodb"),
    "labels": partial(curve_table, "labels-emodb"),
    "pretrained": pretrained_table,
    "pretrained-differences": pretrained_differences,
    "coverage": coverage_table,
    "crosscorpus-functionals": partial(matrix_table, "functionals"),
    "crosscorpus-contours": partial(matrix_table, "contours"),
    "invariant": invariance_table,
    "scale": scale_table,
    "robustness": robustness_table,
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
