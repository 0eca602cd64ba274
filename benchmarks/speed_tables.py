"""Tables of speed for README and docs, from the files that benchmarks wrote to docs/results/speed; see tables.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from undertone.experiments.bench_estimate import LARGEST, in_time

ROOT = Path(__file__).resolve().parents[1]


def markdown(lines: list[list[str]]) -> str:
    """A table of these cells, the header and its rule first."""
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def systems_timing() -> str:
    """Every acoustic preset at both sizes: what 20 updates cost."""
    lines = ["| system | weights | clips an update | 20 updates, s | real-time factor |\n|---|---|---|---|---|\n"]
    for row in json.loads((ROOT / "docs" / "results" / "speed" / "systems.json").read_text())["rows"]:
        cells = [f"`{row['system']}`", f"{row['parameters']:,}", str(row["batch_size"])]
        cells += [f"{row['seconds_of_20_steps']:.1f}", f"{row['real_time_factor']:.4f}"]
        lines.append("| " + " | ".join(cells) + " |\n")
    return "".join(lines)


def extraction(found: Any) -> list[list[str]]:
    """The row of an extraction, from benchmarks/extraction.py."""
    threads = found["machine"]["threads"]
    precision = "" if found["precision"] == "no" else f" in {found['precision']}"
    what = (
        f"extraction{precision}, {found['sounds']:,} clips of {' and '.join(found['corpora'])}, {threads} thread"
        + "s" * (threads > 1)
        + (f", {found['machine']['device']}" if found["machine"]["device"] != "x86_64" else "")  # as older files say
    )
    ours, bare = (f"{found[key]:.1f} audio s/s" for key in ("ours_audio_s_per_s", "bare_audio_s_per_s"))
    native = found["machine"]["device"] == "AMD EPYC"  # with AVX512-BF16 and VNNI
    aim = "≥ 2.0" if native and found["precision"] != "no" else "≥ 1.0"
    return [[what, ours, f"{bare}, bare transformers", f"{found['ratio']:.2f}", aim]]


def probe(found: Any) -> list[list[str]]:
    """Rows of what `benchmarks/probe.py` measured."""
    what = f"SUPERB probe, {found['runs']} trainings x {found['updates']:,} updates, {found['clips']:,} clips"
    bare = f"{found['extraction_s']:.0f} s, its extraction"
    aim = "≤ 0.15" if found["updates"] > 5000 else "≤ 0.10"
    rows = [[what, f"{found['trainings_s']:.0f} s", bare, f"{found['ratio']:.3f}", aim]]
    if whole := found.get("whole_s"):
        ratio = whole / found["extraction_s"]
        rows.append(["the whole command after its imports", f"{whole:.0f} s", bare, f"{ratio:.3f}", "≤ 0.05"])
    return rows


def frames_training(found: Any) -> list[list[str]]:
    """Rows of what `benchmarks/frames_training.py` measured."""
    what = f"attention head on frames of {found['clips']:,} clips, {found['folds']} folds x {found['epochs']} epochs"
    bare = found["extraction_s"]
    store, again = (f"{found[key]:.2f} s" for key in ("epoch_from_store_s", "epoch_recomputing_s"))
    times = f"1/{1 / found['epoch_ratio']:.0f}"
    return [
        [what, f"{found['trainings_s']:.0f} s", f"{bare:.0f} s, its extraction", f"{found['ratio']:.2f}", "≤ 0.4"],
        [f"an epoch of {found['epoch_clips']} clips from the store", store, f"{again}, recomputing", times, "≤ 1/100"],
    ]


def step_time(found: Any) -> list[list[str]]:
    """Rows of what `benchmarks/step_time.py` measured."""
    rows = []
    for row in found:
        bare = "bare forward" if row["mode"] == "frozen" else "bare forward + backward"
        what = f"an update, {row['mode']} ({row['peak_bytes'] / 2**30:.2f} GiB at its peak)"
        rows.append([what, f"{row['ours_s']:.3f} s", f"{row['bare_s']:.2f} s, {bare}", f"{row['ratio']:.4f}", "≤ 1.05"])
    return rows


def memory(found: Any) -> list[list[str]]:
    """Rows of what `benchmarks/memory.py` measured."""
    small, all_of_it = found
    sizes = f"{small['store_bytes'] / 1e9:.1f} GB, {small['allowance_bytes'] / 1e9:.1f} GB of it in memory"
    peak = f"{small['peak_bytes_above_model'] / 1e9:.2f} GB above the model"
    times = f"{small['epoch_s'] / all_of_it['epoch_s']:.2f}"
    return [[f"training from a store of {sizes}", peak, "an epoch with all in memory", times, "≤ 2 GB"]]


def cost_of_use(found: Any) -> list[list[str]]:
    """Rows of what `benchmarks/cost_of_use.py` measured."""
    first = f"{found['bare_first_s']:.2f} s, bare transformers"
    speed = {side: f"{found['folder_audio_s'] / s:.1f} audio s/s" for side, s in found["folder_s"].items()}
    return [
        ["load and first prediction", f"{found['added_first_s']:+.2f} s", first, "–", "≤ +0.3 s"],
        ["a warm call", "–", "bare transformers", f"{found['warm_ratio']:.2f}", "≤ 1.05"],
        ["predict over a folder", speed["ours"], f"{speed['bare']}, bare transformers",
         f"{found['share_of_bare']:.2f}", "≥ 0.95"],
        ["predict over a folder in int8", speed["int8"], f"{speed['bare']}, bare transformers",
         f"{found['int8_share_of_bare']:.2f}", "≥ 0.95"],
        ["predict over a folder", speed["ours"], f"{speed['alone']}, the model alone, audio in memory",
         f"{found['share_of_model']:.2f}", "≥ 0.95"],
    ]  # fmt: skip


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
    theirs, smile, use, first = (read[name] for name in ("s3prl", "opensmile_svm", "cost_of_use", "first_command"))
    whole, frames = read["probe-iemocap"], read["frames_training-side-by-side"]
    steps = {row["mode"]: row for row in read["step_time"]}
    ours = theirs["ours_extraction_s"] + theirs["ours_trainings_s"]
    days = theirs["trainings"] * theirs["updates"] * theirs["s3prl_update_s"] / 86400
    exact, crossval = "states move by < 1e-5", "`undertone crossval"
    script = f"openSMILE and scikit-learn, a script: {smile['script_s']:.0f} s"
    rows = [
        extraction_row("`undertone extract CORPUS --upstream ID`", read["extraction-avx512-no"], exact),
        extraction_row("the same, `mixed_precision=bf16`", read["extraction-avx512-bf16"], frame_error("bf16")),
        extraction_row("the same, `mixed_precision=int8`", read["extraction-avx512-int8"], frame_error("int8")),
        [f"{crossval} emodb --system superb`, 25 trainings",
         f"{ours / 60:.0f} – {theirs['ours_other_run_s'] / 60:.0f} min",
         f"s3prl 0.4.18, 15.06 s an update: {days:.0f} days (estimate)*",
         f"{days * 86400 / theirs['ours_other_run_s']:,.0f} – {days * 86400 / ours:,.0f}",
         "means are exact; float32, 1e-5"],
        ["the same, IEMOCAP-sized, after its extraction", f"{whole['whole_s']:.0f} s",
         f"its extraction: {whole['extraction_s']:.0f} s", f"{whole['extraction_s'] / whole['whole_s']:.1f}",
         "the same"],
        [f"{crossval} emodb --upstream ID --head attention`, {frames['folds']} folds x {frames['epochs']} epochs, "
         f"after its extraction", f"{frames['trainings_s']:.0f} s", f"its extraction: {frames['extraction_s']:.0f} s",
         f"{1 / frames['ratio']:.1f}", "float16 store: 7e-5 relative"],
        [f"{crossval} CORPUS --upstream ID --mode lora`, an update of 8**", *update_cells(steps["lora"]), "none"],
        ["the same, `--mode finetune`**", *update_cells(steps["finetune"]), "none"],
        ["`undertone predict MODEL FOLDER`", f"{use['folder_audio_s'] / use['folder_s']['ours']:.1f} audio s/s",
         f"bare transformers, a file at a time: {use['folder_audio_s'] / use['folder_s']['bare']:.1f}",
         f"{use['share_of_bare']:.2f}", exact],
        ["`undertone predict MODEL FILE`, a `contours` model",
         f"{first['commands']['`undertone predict` of one clip']:.1f} s",
         f"of these, without imports: {first['steps']['loading the model'] + first['steps']['the clip']:.2f} s",
         "–", "none"],
        [f"{crossval} emodb --system functionals --upstream egemaps`***", f"{smile['ours_s']:.0f} s",
         script, f"{smile['script_s'] / smile['ours_s']:.2f}", "none"],
        ["the same again, from the store***", f"{smile['again_s']:.0f} s",
         f"the script again: {smile['script_s']:.0f} s", f"{smile['script_s'] / smile['again_s']:.1f}", "none"],
    ]  # fmt: skip
    for corpus in ("emodb", "ravdess"):
        found = read[f"whole_command-contours-{corpus}"]
        again = f"again, from the store: {found['again']['wall_s']:.0f} s"
        rows.append(
            [f"{crossval} {corpus} --system contours`", f"{found['first']['wall_s']:.0f} s", again, "–", "none"]
        )
    rows += gpu_rows(read["gpu"]) if "gpu" in read else []
    header = ["what you type", "it takes", "beside it", "times as fast", "error of the fast path"]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in [header, ["---"] * len(header), *rows])


def extraction_row(what: str, found: Any, error: str) -> list[str]:
    """An extraction beside bare transformers."""
    bare = f"bare transformers, float32, nothing stored: {found['bare_audio_s_per_s']:.1f}"
    return [what, f"{found['ours_audio_s_per_s']:.1f} audio s/s", bare, f"{found['ratio']:.2f}", error]


def frame_error(precision: str) -> str:
    """The median frame of wav2vec2-base by layer, and the worst frame, against float32."""
    found = json.loads((ROOT / "docs" / "results" / "speed" / "precisions.json").read_text())["upstreams"]
    errors = found["random-wav2vec2-base"][precision]["against_float32"]
    least, most, worst = (100 * one for one in (min(errors["median"]), max(errors["median"]), max(errors["worst"])))
    return f"{least:.1f} – {most:.1f} % of a frame, at most {worst:.1f} %"


def update_cells(row: Any) -> list[str]:
    """Ours, the bare one and the ratio of an update."""
    bare = f"bare forward + backward, no optimiser: {row['bare_s']:.1f} s"
    return [f"{row['ours_s']:.1f} s", bare, f"{1 / row['ratio']:.2f}"]


def gpu_rows(found: Any) -> list[list[str]]:
    """The rows of benchmarks/gpu.py that commands have, on its card."""
    card, rows = found["machine"]["device"], {row["check"]: row for row in found["rows"] if "error" not in row}
    figures, lines = rows.get("extraction", {}).get("figures", {}), []
    for key, one in figures.items():
        if "audio_s_per_s" in one:
            name, dtype, kind = key.split(", ")
            what = f"`undertone extract`, {name}, {dtype}, {kind}, {card}"
            peak = f"{100 * one['share_of_peak']:.1f} % of {one['peak_tflops']:.0f} TFLOP/s of matrix products there"
            error = f"{figures[f'{name}, error of bf16']['mean']:.1e} a frame" if dtype == "bfloat16" else "–"
            lines.append([what, f"{one['audio_s_per_s']:.0f} audio s/s", peak, "–", error])
    for name, one in rows.get("updates", {}).get("figures", {}).items():
        for row in (row for row in one["trainings"] if row["training"] in ("lora", "finetune")):
            training, seconds, _ = bench_cells(row)
            lines.append(
                [f"`undertone crossval --mode {training}`, {name}, an update of 32, {card}", seconds, *["–"] * 3]
            )
    for row in (rows[name] for name in ("superb", "superb_30000") if "seconds_in_all" in rows.get(name, {})):
        what = f"`undertone crossval iemocap --system superb`, {row['updates']} updates, decoding included, {card}"
        lines.append([what, f"{row['seconds_in_all']:.0f} s", "–", "–", "means are exact; float32, 1e-5"])
    return lines


def gpu_batching_table() -> str:
    """How far hidden states on a GPU are from those of the clip alone and of the CPU."""
    found = json.loads((ROOT / "docs" / "results" / "speed" / "gpu.json").read_text())
    (figures,) = (row["figures"] for row in found["rows"] if row["check"] == "batching")
    lines = [["upstream", "largest state", *BATCHING], ["---"] * (len(BATCHING) + 2)]
    for name, row in figures.items():
        lines.append([name, f"{row['largest state']:.0f}", *(f"{row[key]:.1e}" for key in BATCHING)])
    return markdown(lines)


BATCHING = (
    "float32, alone and in a batch",
    "float32, from the CPU's",
    "tf32, alone and in a batch",
    "tf32, from the CPU's",
)


def gpu_updates_table() -> str:
    """What `undertone bench` measured on a GPU."""
    found = json.loads((ROOT / "docs" / "results" / "speed" / "gpu.json").read_text())
    (figures,) = (row["figures"] for row in found["rows"] if row["check"] == "updates")
    lines = [["upstream", "training", "an update of 32 clips", "largest batch"], ["---"] * 4]
    for name, one in figures.items():
        lines += [[name, *bench_cells(row)] for row in one["trainings"]]
    return markdown(lines)


def bench_cells(row: Any) -> list[str]:
    """A training that `undertone bench` measured: its name, an update, the largest batch."""
    tried, seconds = row["largest_batch"], row["update_s"]
    largest = "any" if tried is None else f"{tried}" + "+" * (tried == LARGEST)
    about = "" if row["measured_clips"] >= row["batch_size"] else "~ "
    return [row["training"], about + (f"{1000 * seconds:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"), largest]


def bench_extraction_table() -> str:
    """Extraction in each precision, from the JSON of `undertone bench`."""
    found = json.loads((ROOT / "docs" / "results" / "speed" / "bench.json").read_text())["extraction"]
    speeds = {(row["precision"], row["kind"]): f"{row['audio_s_per_s']:.1f} audio s/s" for row in found}
    names = dict.fromkeys(row["precision"] for row in found)
    rows = [[name, *(speeds.get((name, kind), "–") for kind in ("mean", "frames"))] for name in names]
    return markdown([["precision", "means", "frames"], ["---"] * 3, *rows])


def bench_trainings_table() -> str:
    """What cross-validations would take, from the JSON of `undertone bench`."""
    found = json.loads((ROOT / "docs" / "results" / "speed" / "bench.json").read_text())
    lines = [["training", "an update of 32 clips", "largest batch", "extraction", "trainings"], ["---"] * 5]
    for row in found["trainings"]:
        taken = [in_time(row[key]) if row[key] else "–" for key in ("extraction_s", "trainings_s")]
        lines.append([*bench_cells(row), *taken])
    return markdown(lines)


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


def first_command_table() -> str:
    """Processor seconds of first commands and of the steps of one, from benchmarks/first_command.py."""
    found = json.loads((ROOT / "docs" / "results" / "speed" / "first_command.json").read_text())
    *_, (last, whole) = found["commands"].items()
    steps = found["steps"] | {"the rest, such as the end of the process": whole - sum(found["steps"].values())}
    rows = [[name, f"{value:.2f}"] for name, value in found["commands"].items()]
    rows += [[f"{last}: {name}", f"{value:.2f}"] for name, value in steps.items()]
    return markdown([["command", "s"], ["---"] * 2, *rows])


def probe_stages_table() -> str:
    """Where the whole command of the SUPERB sweep goes once the means are stored, from benchmarks/probe.py."""
    found = json.loads((ROOT / "docs" / "results" / "speed" / "probe-iemocap.json").read_text())
    stages = found["stages"] | {"everything": found["whole_s"]}
    rows = [[name, f"{value:.1f}", f"{100 * value / found['whole_s']:.1f}"] for name, value in stages.items()]
    return markdown([["stage", "s", "%"], ["---"] * 3, *rows])


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


def precisions_table() -> str:
    """Error of each layer in bf16 and int8, median and worst frame, from benchmarks/precisions.py."""
    upstreams = json.loads((ROOT / "docs" / "results" / "speed" / "precisions.json").read_text())["upstreams"]
    columns = {
        f"{named(upstream)}, {precision}": errors["against_float32"]
        for upstream, found in upstreams.items()
        for precision, errors in found.items()
        if precision != "float32"
    }
    lines = [["layer", *columns], ["---"] * (len(columns) + 1)]
    for layer in range(max(len(errors["median"]) for errors in columns.values())):
        pairs = [[errors[key][layer : layer + 1] for key in ("median", "worst")] for errors in columns.values()]
        lines.append([str(layer), *(f"{100 * m[0]:.2f} ({100 * w[0]:.2f})" if m else "–" for m, w in pairs)])
    return markdown(lines)


def named(upstream: str) -> str:
    """An upstream as tables and plots call it."""
    plain = upstream.removeprefix("random-")
    return upstream if plain == upstream else f"{plain}, random weights"


def padded_table() -> str:
    """How far a clip in a padded batch is off the same clip alone, in each precision."""
    upstreams = json.loads((ROOT / "docs" / "results" / "speed" / "precisions.json").read_text())["upstreams"]
    precisions = list(next(iter(upstreams.values())))
    lines = [["upstream", *precisions], ["---"] * (len(precisions) + 1)]
    for upstream, found in upstreams.items():
        errors = [found[name]["padded_against_alone"] for name in precisions]
        lines.append([named(upstream), *(f"{max(one['worst']):.1e} ({max(one['median']):.1e})" for one in errors)])
    return markdown(lines)


def precisions_probe_table() -> str:
    """UAR of the linear probe in each precision, and its difference from float32."""
    probes = json.loads((ROOT / "docs" / "results" / "speed" / "precisions.json").read_text())["probes"]
    header = ["corpus", "precision", "UAR", "trained in it, points", "largest", "predicting in it, points", "largest"]
    lines = [header, ["---"] * len(header)]
    for corpus, found in probes.items():
        for name, row in found["trained"].items():
            cells = [corpus, name, f"{row['mean_uar']:.2f}"]
            for way in ("trained", "predicting"):
                one = found[way].get(name) if name != "float32" else None
                change = one and f"{one['mean_points']:+.2f} ± {one['std_points']:.2f}"
                cells += [change or "–", f"{one['largest_points']:.2f}" if one else "–"]
            lines.append(cells)
    return markdown(lines)


SPEED_TABLES: dict[str, Callable[[], str]] = {
    "speed": speed_table,
    "commands": commands_table,
    "estimates": estimates_table,
    "store_dtypes": dtype_table,
    "systems_timing": systems_timing,
    "bench_extraction": bench_extraction_table,
    "bench_trainings": bench_trainings_table,
    "first_command": first_command_table,
    "probe_stages": probe_stages_table,
    "stacked_update": stacked_update_table,
    "scale": scale_table,
    "gpu_batching": gpu_batching_table,
    "gpu_updates": gpu_updates_table,
    "precisions": precisions_table,
    "precisions_padded": padded_table,
    "precisions_probe": precisions_probe_table,
}
