"""`undertone ablate`, the ablation of a system."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undertone.commands.flags import CorpusArg
from undertone.commands.terminal import show
from undertone.common.discovery import available, nearest
from undertone.common.files import read_json, safe_name

if TYPE_CHECKING:
    from undertone.corpora.manifest import Manifest
    from undertone.recipes.systems import Row
    from undertone.training.config import RunConfig


def ablate(
    system: Annotated[str, typer.Argument(help="a preset (undertone list systems), also li2019:small")],
    corpus: CorpusArg,
    settings: Annotated[
        list[str] | None, typer.Argument(help="key=value, for all rows; undertone list settings shows all")
    ] = None,
    root: Annotated[str | None, typer.Option(help="folder of the corpus' audio")] = None,
    rows: Annotated[
        str | None, typer.Option(help="only these rows, separated by commas; the others stay blank")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the rows' runs; finished rows are kept")] = None,
) -> None:
    """Cross-validate every row of a system's ablation and print one table, with the published scores."""
    from undertone.common.console import is_first_process

    names = [name.strip() for name in rows.split(",") if name.strip()] if rows is not None else []
    words = [*(settings or []), *([f"root={root}"] if root is not None else [])]
    folder = out or Path("runs") / f"ablate-{Path(system).stem.replace(':', '-')}-{Path(corpus).stem}"
    ablation = run_ablation(system, corpus, words, folder, names)
    if is_first_process():
        show(ablation_table(ablation.rows, ablation.left_out))


# ---- The ablation of a system: each row changes its settings, and has the published scores with it.

CLASSES = ("uar", "wa")
VALUES = ("ccc",)


def ablation_rows(system: str) -> tuple[Row, ...]:
    """The rows of a system's ablation; a ValueError names the systems that have one."""
    from undertone.recipes.systems import available_systems, system_module

    rows: tuple[Row, ...] = getattr(system_module(system), "ABLATION", ())
    if not rows:
        having = [name for name in available_systems() if hasattr(system_module(name), "ABLATION")]
        raise ValueError(f"System {system!r} has no ablation. Those that have one: {', '.join(having)}.")
    return rows


@dataclass(frozen=True)
class Ablation:
    """The outcome of an ablation."""

    rows: list[tuple[Row, dict[str, Any] | None]]  # with the results; None where a row was not run
    left_out: dict[str, str]  # {row: why it is not run on this corpus with these settings}


def run_ablation(system: str, corpus: str, words: Sequence[str], out: Path, names: Sequence[str] = ()) -> Ablation:
    """Cross-validate the chosen rows; finished ones are not repeated.

    Args:
        system: a preset, with variants: `li2019:small`.
        corpus: as in `undertone crossval`.
        words: `key=value` of any setting, for all rows; a row's own settings win.
        out: each row's run is OUT/NAME.
        names: of the rows to run; empty: all that can be run on this corpus.

    Raises:
        ValueError: an unknown system, row, corpus or setting; a named row that cannot be run here; a row in `out` of
            another corpus or with other settings.
    """
    from undertone.experiments.crossval import crossval

    rows, configs = ablation_rows(system), row_configs(system, corpus, words)
    if unknown := [name for name in names if name not in configs]:
        raise ValueError(f"System {system!r} has no row {unknown[0]!r} to run.{nearest(unknown[0], configs)}")
    manifests = _Manifests()
    _check_one_table(configs, out, manifests)
    chosen = [row.name for row in rows if row.name in configs and (not names or row.name in names)]
    reasons = reasons_against(rows, configs, manifests)
    left_out = {name: reasons[name] for name in chosen if name in reasons}
    if left_out and (names or len(left_out) == len(chosen)):
        name, reason = next(iter(left_out.items()))
        raise ValueError(f"Row {name!r} cannot be run: {reason}")
    for name in chosen:
        if name not in left_out:
            crossval(configs[name], row_folder(out, name))
    finished = {row.name: row_folder(out, row.name) / "results.json" for row in rows}
    return Ablation(
        [(row, read_json(finished[row.name]) if finished[row.name].is_file() else None) for row in rows], left_out
    )


def row_configs(system: str, corpus: str, words: Sequence[str] = ()) -> dict[str, RunConfig]:
    """The settings of every row that can be run.

    Raises:
        ValueError: a wrong setting, or upstreams without the stream that a row is of.
    """
    from undertone.recipes.systems import load_system
    from undertone.training.settings import make_config

    preset, (_, *variants) = load_system(system), system.split(":")
    configs = {}
    for row in ablation_rows(system):
        if row.words is None:
            continue
        own = [*row.words, *(word for variant in variants for word in row.variants.get(variant, ()))]
        if row.streams:
            whole = _of_streams(row, make_config({"corpus": corpus}, words, preset=preset), preset["upstream"])
            configs[row.name] = make_config({}, own, preset=whole)
        else:
            configs[row.name] = make_config({"corpus": corpus}, [*words, *own], preset=preset)
    return configs


def _of_streams(row: Row, config: RunConfig, named: str) -> dict[str, Any]:
    """The settings of a system with the streams of a row alone, which `named` are all of the system's."""
    from undertone.training.values import join_upstreams, named_upstreams

    given, settings = named_upstreams(config.upstream), config.model_dump()
    if lacking := [name for name in row.streams if name not in given]:
        raise ValueError(
            f"Row {row.name!r} is of the stream {lacking[0]!r}, and upstream={config.upstream} has none of that name. "
            f"Name the streams as the system does: upstream={named}."
        )
    settings["upstream"] = join_upstreams({name: given[name] for name in row.streams})
    settings["streams"] = {name: own for name, own in settings["streams"].items() if name in row.streams}
    return settings


def row_folder(out: Path, name: str) -> Path:
    """OUT/NAME, the run of a row."""
    return out / safe_name(name)


def reasons_against(
    rows: Sequence[Row], configs: Mapping[str, RunConfig], manifest_of: Callable[[RunConfig], Manifest]
) -> dict[str, str]:
    """{row: why it is not run}: see `why_not`; or its settings are those of a row before it, under another name."""
    reasons: dict[str, str] = {}
    runs: list[str] = []
    for row in (row for row in rows if row.name in configs):
        config = configs[row.name]
        same = next((name for name in runs if configs[name] == config), None)
        if reason := why_not(row, config, manifest_of(config)):
            reasons[row.name] = reason
        elif same is not None:
            reasons[row.name] = f"with these settings it is the row {same!r} again."
        else:
            runs.append(row.name)
    return reasons


def why_not(row: Row, config: RunConfig, manifest: Manifest) -> str:
    """Why a row cannot be run on a corpus, in a sentence; "" where it can."""
    from undertone.experiments.hidden_states import any_video
    from undertone.training.targets import choose_tasks
    from undertone.upstream.base import Upstream
    from undertone.upstream.load import ACOUSTIC, load_upstream

    if row.needs == "unlabelled" and config.unlabelled is None:
        return "it learns from unlabelled speech: give unlabelled=FOLDER."
    try:
        for own in config.of_streams().values():
            if own.upstream in available(ACOUSTIC, Upstream):  # one may need a package that is not installed
                load_upstream(own.upstream, options=own.upstream_options)
        tasks = choose_tasks(manifest, config.tasks, config.task_weights, config.soft_labels, config.adversarial)
    except ValueError as error:
        return str(error)
    if row.needs == "video" and not any_video(manifest):
        return "no clip has video."
    kind = "values" if any(task.kind == "regression" for task in tasks) else "classes"
    if row.needs in ("values", "classes") and row.needs != kind:
        return f"it predicts {row.needs}, but these tasks are {kind}: {', '.join(t.name for t in tasks)}."
    return ""


class _Manifests:
    """The manifest of a config, made once for all rows on the same data."""

    def __init__(self) -> None:
        self._known: dict[str, Manifest] = {}

    def __call__(self, config: RunConfig) -> Manifest:
        from undertone.experiments.hidden_states import prepare_from_config

        key = repr([getattr(config, name) for name in ("corpus", "corpus_options", "root", "strict", "store")])
        if key not in self._known:
            self._known[key] = prepare_from_config(config).manifest
        return self._known[key]


def _check_one_table(configs: Mapping[str, RunConfig], out: Path, manifests: _Manifests) -> None:
    """Refuse rows in `out` with other settings or of another corpus: they do not belong in one table."""
    from undertone.experiments.hidden_states import open_upstream
    from undertone.training.accelerator import with_precision
    from undertone.training.settings import check_same_run

    for name, config in configs.items():
        folder = row_folder(out, name)
        if config.mixed_precision == "auto" and (folder / "config.json").is_file():
            config = with_precision(config, open_upstream(config))[0]
        check_same_run(config, folder / "config.json")
        if not (folder / "results.json").is_file():
            continue
        before, now = read_json(folder / "results.json"), manifests(config)
        if before["manifest_hash"] != now.hash:
            raise ValueError(
                f"{folder} was made from other data: {before['corpus']} had {before['num_utterances']} utterances of "
                f"{before['num_speakers']} speakers, {config.corpus} has {len(now)} of "
                f"{len(set(now.speaker_names.values()) - {None})} now, or other labels or audio. "
                f"Choose another --out, or remove that folder to run the row again."
            )


def ablation_table(
    rows: Sequence[tuple[Row, dict[str, Any] | None]], left_out: Mapping[str, str] = MappingProxyType({})
) -> tuple[list[str], list[str], list[list[str]]]:
    """Title lines, header and a line for each row of an `Ablation` and task; our cells are blank where none was run."""
    from undertone.scoring.results import METRICS, probe_scores, title_lines

    ran = [results for _, results in rows if results is not None]
    kinds = {task["kind"] for results in ran for task in results["tasks"]} or {"classification"}
    metrics = [*(CLASSES if kinds != {"regression"} else ()), *(VALUES if "regression" in kinds else ())]
    ours = ["Task", *(f"Ours: {METRICS[metric]}" for metric in metrics)]
    ours += [f"{METRICS[metric]} over folds" for metric in metrics if metric in CLASSES]
    ours += ["95 % interval", "Parameters", "Training"]
    probed = list(dict.fromkeys(name for results in ran for name in probe_scores(results)))
    ours += [f"Probe: {name}" for name in probed]
    lines = []
    for row, results in rows:
        cells = [[""] * len(ours)] if results is None else _cells(results, metrics, probed)
        named = [(row.name, row.published), *[("", "")] * (len(cells) - 1)]
        lines += [[*name, *line] for name, line in zip(named, cells, strict=True)]
    titles = title_lines(ran[0])[1:] if ran else []
    titles += [f"Row {name} was skipped: {reason}" for name, reason in left_out.items()]
    if probed:
        titles.append("Probe: UAR (chance) of a new linear probe for what the adversary removes from the embeddings.")
    if any(metric in CLASSES for metric in metrics):
        titles.append("Ours: of all test utterances as one set; over folds: mean ± standard deviation.")
    titles.append("Published scores hold for the corpus and protocol named with them; ours are of this run.")
    return titles, ["Row", "Published", *ours], lines


def _cells(results: Mapping[str, Any], metrics: Sequence[str], probed: Sequence[str]) -> list[list[str]]:
    """Our columns of one row, one line per task; the interval belongs to the task's first metric."""
    from undertone.scoring.results import interval_text, mean_text, number, probe_scores

    lines = []
    for name, pooled in results["pooled"].items():
        own = [metric for metric in metrics if metric in pooled]
        scores = [number(metric, pooled[metric]) if metric in own else "" for metric in metrics]
        scores += [mean_text(results, name, one) if one in own else "" for one in metrics if one in CLASSES]
        interval = interval_text(results, name, own[0]) or "–"
        lines.append([name, *scores, interval, "", "", *[""] * len(probed)])
    cost, found = results["cost"], probe_scores(results)
    probes = [
        f"{number('uar', found[name][0])} ({number('uar', found[name][1])})" if name in found else "" for name in probed
    ]
    lines[0][-2 - len(probed) :] = [f"{cost['parameters']:,}", f"{cost['training_seconds']:.0f} s", *probes]
    return lines
