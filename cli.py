"""The `undertone` command. Everything heavy is imported inside the commands, so that --help answers at once."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from undertone.recipes.flags import CorpusArg, run_command
from undertone.training.progress import is_first_process

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Speech emotion recognition: any Hugging Face upstream, light heads, speaker-independent scores.",
)
console = Console(quiet=not is_first_process())
INTERRUPTED = 130

CorpusOptions = Annotated[list[str] | None, typer.Argument(help="corpus.NAME=value")]
Root = Annotated[Path | None, typer.Option(help="folder of the corpus' audio")]
PushOption = Annotated[str | None, typer.Option("--push", help="push the model to the Hub as user/name when done")]
ModelArg = Annotated[str, typer.Argument(help="a RUN, a model folder, or a Hub id")]


def main() -> None:
    """Entry point: a user's error ends as one sentence, an interrupted run with how to go on."""
    try:
        app()
    except SystemExit as end:
        if end.code == INTERRUPTED:  # what typer makes of Ctrl-C, without a word
            _fail("Interrupted. What was finished is kept; the same command goes on from there.", INTERRUPTED)
        raise
    except (ValueError, OSError) as error:
        _fail(str(error))


def _fail(message: str, status: int = 2) -> NoReturn:
    Console(stderr=True).print(f"undertone: {message}", markup=False, highlight=False, soft_wrap=True)
    sys.exit(status)


def _print(text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _show(table_of: tuple[list[str], list[str], list[list[str]]]) -> None:
    """Title lines and a table."""
    titles, header, rows = table_of
    for title in titles:
        _print(title)
    table = Table(*header)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _finish(results: dict[str, Any] | None, out: Path, push_to: str | None) -> None:
    """The results of a run, where they are, what to type next, and the push that was asked for."""
    from undertone.training.results import results_table

    if results is None or not is_first_process():
        return
    _show(results_table(results))
    _print(f"results  {out / 'results.json'}\nmodel    {out / 'model'}")
    _print(f"next     undertone report {out}\n         undertone predict {out} FILE.wav")
    if push_to is not None:
        from undertone.hub.push import push as push_run

        _print(f"pushed   {push_run(out, push_to)}")


@app.command()
def quickstart(out: Annotated[Path, typer.Option(help="folder of the run")] = Path("runs/quickstart")) -> None:
    """Everything once, with no data and no network: make a corpus, cross-validate, save, predict a file."""
    from undertone.recipes.quickstart import run

    results, example, prediction = run(out)
    _finish(results, out, None)
    _print(f"predicted {example}\n{json.dumps(prediction, indent=2)}")


@app.command()
def prepare(
    corpus: CorpusArg,
    options: CorpusOptions = None,
    root: Root = None,
    out: Annotated[Path | None, typer.Option(help="folder to write the manifest to")] = None,
    strict: Annotated[bool, typer.Option(help="stop at a broken file")] = False,
) -> None:
    """Check every file of a corpus, write its manifest, print a table."""
    from undertone.corpora import load_corpus
    from undertone.corpora.prepare import prepare as prepare_corpus
    from undertone.corpora.prepare import summary
    from undertone.training.config import corpus_options
    from undertone.training.progress import Display

    source, display = load_corpus(corpus, corpus_options(options or [])), Display()
    with display.bar(f"checking {source.name}") as advance:
        prepared = prepare_corpus(source, root, strict=strict, progress=lambda done, total: advance(done, total, ""))
    table = Table("what", "value", title=source.name)
    for name, value in summary(prepared):
        table.add_row(str(name), str(value))
    console.print(table)
    for line in [*prepared.warnings, *(f"set aside {path}: {reason}" for path, reason in prepared.broken)]:
        _print(f"note: {line}")
    folder = out or Path("runs") / f"{source.name}-manifest"
    prepared.manifest.save(folder)
    _print(f"manifest {folder} ({len(prepared.manifest)} utterances)")


@app.command(name="check-split")
def check_split(
    train: Annotated[str, typer.Argument(help="a table or a prepared manifest")],
    test: Annotated[str, typer.Argument(help="another one")],
) -> None:
    """Speakers, sound and sentences that two sides share; exit status 1 if there are any."""
    from undertone.corpora import check_split as checking
    from undertone.training.progress import Display

    display = Display()

    def read(path: str) -> Any:
        with display.bar(f"checking {path}") as advance:
            return checking.read_side(path, lambda done, total: advance(done, total, ""))

    shared, notes = checking.check_split(read(train), read(test))
    for line in [*(f"note: {note}" for note in notes), *shared]:
        _print(str(line))
    if shared:
        sys.exit(1)
    _print("Nothing is shared: no speaker, no sound, no sentence.")


@app.command()
@run_command
def crossval(
    config: Any,
    out: Path,
    compare: Annotated[Path | None, typer.Option(help="a finished run to compare the results with")] = None,
    push: PushOption = None,
) -> None:
    """Train and test every fold, pool the scores, train RUN/model on all speakers."""
    from undertone.training import compare as comparing
    from undertone.training.crossval import crossval as run

    if compare is not None:
        comparing.read_finished(compare)  # a wrong path is noticed before the training, not after it
    results = run(config, out)
    _finish(results, out, push)
    if compare is not None and results is not None:
        _show(comparing.comparison_table(comparing.compare_runs([compare, out])))


@app.command()
@run_command
def train(
    config: Any,
    out: Path,
    fold: Annotated[str | None, typer.Option(help="which fold; default: the first")] = None,
    push: PushOption = None,
) -> None:
    """Train and test one fold; RUN/model is the one with the best dev score."""
    from undertone.training.crossval import train as run

    _finish(run(config, out, fold), out, push)


@app.command()
def evaluate(
    model: ModelArg,
    corpus: CorpusArg,
    options: CorpusOptions = None,
    root: Root = None,
    label_map: Annotated[str | None, typer.Option("--map", help="CORPUS_LABEL=MODEL_LABEL,...: joy=happy")] = None,
    labels: Annotated[str | None, typer.Option(help="score these labels of the model alone: angry,happy")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="write the results to this file")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
) -> None:
    """Score a trained model on a corpus, whose labels may need other words."""
    from undertone.files import write_json
    from undertone.inference.predict import load_model
    from undertone.training.config import corpus_options
    from undertone.training.evaluate_model import evaluate_model
    from undertone.training.relabel import parse_labels, parse_map
    from undertone.training.results import results_table

    results = evaluate_model(
        load_model(model).model,
        corpus,
        root,
        device,
        options=corpus_options(options or []),
        label_map=parse_map(label_map) if label_map is not None else None,
        labels=parse_labels(labels or ""),
    )
    _show(results_table(results))
    for warning in results["warnings"]:
        _print(f"note: {warning}")
    for warning in results["warnings"]:
        _print(f"note: {warning}")
    if json_file is not None:
        write_json(json_file, results)


@app.command()
def predict(
    model: ModelArg,
    files: Annotated[list[Path], typer.Argument(help="sound files")],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="print CSV")] = False,
) -> None:
    """Predict emotion, gender, ... of sound files."""
    from undertone.inference import format as formats
    from undertone.inference.predict import load_model

    rows = load_model(model).predict(files)
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
    elif as_csv:
        sys.stdout.write(formats.as_csv(rows))
    else:
        console.print(formats.as_table(rows))
    if all("error" in row for row in rows):
        _fail("no file could be read.", 1)


@app.command()
def report(run: Annotated[Path, typer.Argument(help="RUN, the folder of a finished run")]) -> None:
    """Write RUN/report.html and RUN/report.md: tables, confusions, speakers, calibration, embeddings, raters."""
    from undertone.training.report import write_report

    _print(f"report {write_report(run)}")


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="folders of finished runs, the baseline first")],
    out: Annotated[Path | None, typer.Option(help="folder for compare.json and compare.html")] = None,
) -> None:
    """Paired differences between runs on the same folds: interval, permutation p, Holm."""
    from undertone.training.compare import compare_runs, comparison_table, write_comparison

    comparison = compare_runs(runs)
    _show(comparison_table(comparison))
    if out is not None:
        _print(f"page   {write_comparison(comparison, out)}")


@app.command()
def rerun(
    run: Annotated[Path, typer.Argument(help="a finished run")],
    out: Annotated[Path | None, typer.Option(help="folder of the new run; default: RUN-rerun")] = None,
) -> None:
    """Make a run again from its resolved config, and compare the metrics."""
    from undertone.training.rerun import rerun as run_again
    from undertone.training.rerun import rerun_table

    again, results = run_again(run, out)
    if results is not None:
        _show(rerun_table(run, again))


@app.command()
def new(
    kind: Annotated[str, typer.Argument(help="head, corpus or upstream")],
    name: Annotated[str, typer.Argument(help="of the file and the class: my_head")],
    out: Annotated[Path, typer.Option(help="folder to write to")] = Path("."),
) -> None:
    """Write NAME.py, a commented working start, and test_NAME.py, its contract test."""
    from undertone.recipes.new import write_new

    file, test = write_new(kind, name, out)
    path = file if file.is_absolute() else f"./{file}"
    use = {"head": f"crossval CORPUS --head {path}", "corpus": f"prepare {path} --root FOLDER"}
    _print(f"wrote    {file}, {test}\ntry      pytest {test}")
    _print(f"then     undertone {use.get(kind, f'crossval CORPUS --upstream {path}')}")


@app.command()
def push(
    run: Annotated[Path, typer.Argument(help="RUN or a model folder")],
    repo_id: Annotated[str, typer.Argument(help="user/name on the Hub")],
    public: Annotated[bool, typer.Option(help="make the repository public; default: private")] = False,
) -> None:
    """Upload a model with its scores and card to the Hub."""
    from undertone.hub.push import push as push_run

    _print(f"pushed {push_run(run, repo_id, private=not public)}")


@app.command(name="list")
def list_names(kind: Annotated[str, typer.Argument(help="corpora, upstreams, heads or systems")]) -> None:
    """What there is by name."""
    from undertone.recipes.listing import listing

    table = Table(kind, "")
    for name, text in listing(kind):
        table.add_row(name, text)
    console.print(table)


if __name__ == "__main__":
    main()
