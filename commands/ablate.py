"""Commands that take a system apart: its ablation, and its scores in noise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from undertone.commands.terminal import say, show
from undertone.recipes.flags import CorpusArg


def ablate(
    system: Annotated[str, typer.Argument(help="a preset (undertone list systems), also li2019:small")],
    corpus: CorpusArg,
    settings: Annotated[list[str] | None, typer.Argument(help="key=value for any setting, of all rows")] = None,
    root: Annotated[str | None, typer.Option(help="folder of the corpus' audio")] = None,
    rows: Annotated[str | None, typer.Option(help="only these rows, with commas; the others stay blank")] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the rows' runs; what is finished is kept")] = None,
) -> None:
    """Cross-validate every row of a system's ablation; one table, published beside ours."""
    from undertone.recipes.ablation import ablation_table, run_ablation
    from undertone.training.progress import is_first_process

    names = [name.strip() for name in rows.split(",") if name.strip()] if rows is not None else []
    words = [*(settings or []), *([f"root={root}"] if root is not None else [])]
    folder = out or Path("runs") / f"ablate-{Path(system).stem.replace(':', '-')}-{Path(corpus).stem}"
    ablation = run_ablation(system, corpus, words, folder, names)
    if is_first_process():
        show(ablation_table(ablation.rows, ablation.left_out))


def noise_test(
    run: Annotated[Path, typer.Argument(help="a finished run of crossval")],
    noise: Annotated[Path | None, typer.Option(help="folder of noises, or one; white noise is always tested")] = None,
    snr: Annotated[str, typer.Option(help="signal-to-noise ratios in dB, with commas")] = "20,10,5,0",
    seed: Annotated[int, typer.Option(help="decides which stretch of which noise an utterance hears")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
) -> None:
    """Score a run's models on their folds' test utterances with noise in them; writes RUN/noise.json."""
    from undertone.files import write_json
    from undertone.training import noise_test as testing

    try:
        snrs = [float(word) for word in snr.split(",")]
    except ValueError as error:
        raise ValueError(f"--snr takes numbers with commas, such as 20,10,5,0, got {snr!r}.") from error
    tested = testing.noise_test(run, noise, snrs, seed, device)
    write_json(run / "noise.json", tested)
    show(testing.noise_table(tested))
    say(f"scores {run / 'noise.json'}")
