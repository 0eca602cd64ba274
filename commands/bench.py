"""`undertone bench`: how fast this machine is, what a corpus will take on it, and the settings for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from undertone.commands.flags import CORPUS_HELP
from undertone.commands.terminal import say, show

CORPUS = "synthetic"


def bench(
    corpus: Annotated[str, typer.Argument(help=f"{CORPUS_HELP}; default: one of synthetic speech")] = CORPUS,
    settings: Annotated[list[str] | None, typer.Argument(help="key=value; undertone list settings shows all")] = None,
    upstream: Annotated[str | None, typer.Option(help="Hub id, folder, or a name (`undertone list upstreams`)")] = None,
    root: Annotated[str | None, typer.Option(help="folder of the corpus' audio")] = None,
    system: Annotated[str | None, typer.Option(help="a preset whose schedule and sweep count: superb")] = None,
    store: Annotated[
        str | None, typer.Option(help="folder of stored hidden states, where the sample is written")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="also write what was found to this file")] = None,
) -> None:
    """Measure this machine for two minutes: extraction, updates, batches, and what a corpus will take."""
    from undertone.common.console import Display
    from undertone.common.files import write_json
    from undertone.experiments import bench_estimate as concluding
    from undertone.experiments.bench import bench as measure
    from undertone.recipes.systems import load_system
    from undertone.training.settings import make_config

    words = settings or []
    if "=" in corpus and not Path(corpus).exists():
        corpus, words = CORPUS, [corpus, *words]
    if json_file is not None and json_file.is_dir():
        raise ValueError(f"{json_file} is a folder. Give --json a file.")
    given = {"corpus": corpus, "upstream": upstream, "root": root, "store": store, "device": device}
    config = make_config(given, words, preset=load_system(system) if system is not None else None)
    found = concluding.as_json(measure(config, Display()))
    show(concluding.extraction_table(found))
    show(concluding.training_table(found))
    for note in found["notes"]:
        say(f"note: {note}")
    best = found["recommended"]
    say(f"recommended, about {concluding.in_time(best['seconds'])}: {best['why']}\n{best['command']}")
    if json_file is not None:
        write_json(json_file, found)
        say(f"measured {json_file}")
