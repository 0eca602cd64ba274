"""Commands that start runs and read them: quickstart, crossval, train, report, robustness, compare, rerun."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from undertone.commands.flags import run_command
from undertone.commands.terminal import say, show
from undertone.common.console import is_first_process

PushOption = Annotated[str | None, typer.Option("--push", help="push the model to the Hub as user/name in the end")]


def finish(results: dict[str, Any] | None, out: Path, push_to: str | None) -> None:
    """Print the results of a run, where they are and what to type next; push if asked."""
    from undertone.scoring.by_corpus import corpus_table
    from undertone.scoring.results import results_table

    if results is None or not is_first_process():
        return
    show(results_table(results))
    if (corpora := corpus_table(results))[1]:
        show(([], *corpora))
    say(f"results  {out / 'results.json'}\nmodel    {out / 'model'}")
    say(f"next     undertone report {out}\n         undertone predict {out} FILE.{'mp4' if _sees(out) else 'wav'}")
    if push_to is not None:
        from undertone.publish.push import push as push_run

        say(f"pushed   {push_run(out, push_to)}")


def _sees(out: Path) -> bool:
    """Whether the run's model looks at pictures, and refuses sound alone."""
    from undertone.common.files import read_json
    from undertone.publish.card import upstream_specs
    from undertone.upstream.hf.video import PICTURES

    config = read_json(out / "model" / "config.json")
    kinds = [spec.get("config", {}).get("model_type") for spec in upstream_specs(config)]
    return PICTURES in kinds and not config["trained_on"].get("audio_only")


def _check_push(push_to: str | None) -> None:
    if push_to is not None and is_first_process():
        from undertone.publish.push import check_target

        check_target(push_to)


def quickstart(out: Annotated[Path, typer.Option(help="folder of the run")] = Path("runs/quickstart")) -> None:
    """Try everything, without data or network: make a corpus, cross-validate, save, predict a file."""
    from undertone.common.console import Display
    from undertone.experiments.crossval import crossval as run
    from undertone.inference.predict import load_model
    from undertone.report.report import write_report
    from undertone.training.config import RunConfig

    display = Display()
    display.say("A synthetic corpus of 8 speakers and 4 emotions; every fold is tested on unseen speakers.")
    config = RunConfig(
        corpus="synthetic",
        root=str(out / "corpus"),
        store=str(out / "store"),
        protocol="groups",
        num_folds=4,
        upstream="tiny",
        max_epochs=15,
        batch_size=16,
        learning_rate=2e-3,
    )
    results = run(config, out, display)
    if results is None:
        raise ValueError(f"Another process works in {out}. Wait for it, or choose another --out.")
    display.say(f"report   {write_report(out)}")
    example = out / "corpus" / "seed0" / "F1_sad_01.wav"
    prediction = load_model(out).predict([example])[0]
    finish(results, out, None)
    say(f"predicted {example}\n{json.dumps(prediction, indent=2)}")


@run_command
def crossval(
    config: Any,
    out: Path,
    compare: Annotated[Path | None, typer.Option(help="a finished run to compare the results with")] = None,
    push: PushOption = None,
) -> None:
    """Train and test every fold, pool the scores, and train RUN/model on all speakers."""
    from undertone.experiments.crossval import crossval as run
    from undertone.scoring import compare as comparing

    if compare is not None:
        comparing.read_finished(compare)  # a wrong path fails before the training
    _check_push(push)
    results = run(config, out)
    finish(results, out, push)
    if compare is not None and results is not None:
        show(comparing.narrow_table(comparing.compare_runs([compare, out])))


@run_command
def train(
    config: Any,
    out: Path,
    fold: Annotated[str | None, typer.Option(help="which fold; default: the first")] = None,
    push: PushOption = None,
) -> None:
    """Train and test one fold; RUN/model is the one with the best dev score."""
    from undertone.experiments.crossval import train as run

    _check_push(push)
    finish(run(config, out, fold), out, push)


@partial(run_command, joins=True)
def crosscorpus(config: Any, out: Path) -> None:
    """Train on each corpus and on all but one, test on each: `undertone crosscorpus A B C`; a matrix and a heat map."""
    from undertone.experiments.crosscorpus import crosscorpus as run
    from undertone.experiments.crosscorpus import crosscorpus_table
    from undertone.report.crosscorpus_page import write_matrix

    found = run(config, out)
    if found is None or not is_first_process():
        return
    show(crosscorpus_table(found))
    say(f"page     {write_matrix(found, out)}\npicture  {out / 'crosscorpus.png'}\nnumbers  {out / 'crosscorpus.json'}")


def report(run: Annotated[Path, typer.Argument(help="RUN, the folder of a finished run")]) -> None:
    """Write RUN/report.html and RUN/report.md: tables, confusions, speakers, calibration, embeddings, raters."""
    from undertone.report.report import write_report

    say(f"report {write_report(run)}")


def robustness(
    run: Annotated[Path, typer.Argument(help="a finished run of crossval")],
    only: Annotated[
        str | None, typer.Option(help="of noise, codec, band, gain, speed, reverb; separated by commas")
    ] = None,
    noise: Annotated[
        Path | None, typer.Option(help="noise recording or a folder of them; white noise is always tested")
    ] = None,
    snr: Annotated[str, typer.Option(help="signal-to-noise ratios in dB, separated by commas")] = "20,10,5,0",
    seed: Annotated[int, typer.Option(help="decides which part of which noise recording each utterance gets")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
) -> None:
    """Score a run's models on disturbed test utterances; writes RUN/robustness.json and the report again."""
    from undertone.common.files import write_json
    from undertone.experiments import robustness as testing
    from undertone.report.report import write_report

    try:
        snrs = [float(word) for word in snr.split(",")]
    except ValueError as error:
        raise ValueError(f"--snr takes numbers with commas, such as 20,10,5,0, got {snr!r}.") from error
    kinds = [word.strip() for word in only.split(",")] if only is not None else list(testing.KINDS)
    tested = testing.robustness(run, kinds, noise, snrs, seed, device)
    write_json(run / "robustness.json", tested)
    show(testing.robustness_table(tested))
    say(f"scores {run / 'robustness.json'}\nreport {write_report(run)}")


def compare(
    runs: Annotated[list[Path], typer.Argument(help="folders of finished runs, the baseline first")],
    out: Annotated[Path | None, typer.Option(help="folder for compare.json and compare.html")] = None,
) -> None:
    """Compare runs on the same utterances: paired differences over speakers, 95 % intervals, p with Holm correction."""
    from undertone.report.compare_page import write_comparison
    from undertone.scoring.compare import compare_runs, narrow_table

    comparison = compare_runs(runs)
    show(narrow_table(comparison))
    if out is not None:
        say(f"page   {write_comparison(comparison, out)}")


def rerun(
    run: Annotated[Path, typer.Argument(help="a finished run")],
    out: Annotated[Path | None, typer.Option(help="folder of the new run; default: RUN-rerun")] = None,
) -> None:
    """Repeat a run from its resolved config, and compare the metrics."""
    from undertone.experiments.rerun import rerun as run_again
    from undertone.experiments.rerun import rerun_table

    again, results = run_again(run, out)
    if results is not None:
        show(rerun_table(run, again))
