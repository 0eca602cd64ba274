"""Commands on trained models: evaluate, explain, demo, push, export."""

from __future__ import annotations

import re
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from undertone.commands.flags import CorpusArg
from undertone.commands.terminal import AllowOption, CorpusOptions, ModelArg, Root, say, show

if TYPE_CHECKING:
    from undertone.downstream.model import UndertoneModel


def evaluate(
    model: ModelArg,
    corpus: CorpusArg,
    options: CorpusOptions = None,
    root: Root = None,
    label_map: Annotated[str | None, typer.Option("--map", help="CORPUS_LABEL=MODEL_LABEL,...: joy=happy")] = None,
    labels: Annotated[str | None, typer.Option(help="score only these labels of the model: angry,happy")] = None,
    out: Annotated[
        Path | None, typer.Option(help="folder of results and predictions; default: runs/MODEL-on-CORPUS")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="also write the results to this file")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    allow: AllowOption = None,
) -> None:
    """Score a trained model on a corpus, with its labels mapped where they differ; keep every prediction."""
    from undertone.common.files import write_json
    from undertone.corpora import load_corpus
    from undertone.corpora.own.labels import parse_map
    from undertone.experiments.evaluate_model import evaluate_model, parse_labels
    from undertone.inference.predict import load_model
    from undertone.scoring.results import results_table
    from undertone.training.settings import corpus_options

    corpus_settings = corpus_options(options or [])
    if out is None:
        name = f"{Path(model).resolve().name}-on-{load_corpus(corpus, corpus_settings).name}"
        out = Path("runs") / re.sub(r"[^\w.-]+", "-", name)
    results = evaluate_model(
        load_model(model, allow=tuple(allow or ())).model,
        corpus,
        root,
        device,
        options=corpus_settings,
        label_map=parse_map(label_map) if label_map is not None else None,
        labels=parse_labels(labels or ""),
        out=out,
        command=shlex.join(["undertone", *sys.argv[1:]]),
    )
    show(results_table(results))
    for warning in results["warnings"]:
        say(f"note: {warning}")
    say(f"results  {out / 'results.json'}\nnext     undertone report {out}\n         undertone compare RUN {out}")
    if json_file is not None:
        write_json(json_file, results)


def explain(
    model: ModelArg,
    file: Annotated[Path, typer.Argument(help="an audio file")],
    task: Annotated[str | None, typer.Option(help="which task, of several; default: the first")] = None,
    target: Annotated[str | None, typer.Option(help="explain this class instead of the predicted one")] = None,
    out: Annotated[Path | None, typer.Option(help="OUT.html and OUT.png; default: FILE-explained here")] = None,
    allow: AllowOption = None,
) -> None:
    """Show what a prediction rests on: attribution and attention over time, scores, layer weights."""
    from undertone.downstream.model import UndertoneModel
    from undertone.inference.explain import explain as explain_file
    from undertone.inference.predict import load_model
    from undertone.report.explain_page import write_explanation

    loaded = load_model(model, allow=tuple(allow or ())).model
    if not isinstance(loaded, UndertoneModel):
        raise ValueError(
            f"{model} is a {type(loaded.model).__name__}; only models that Undertone trained are explained."
        )
    found = explain_file(loaded, file, task, target)
    html, png = write_explanation(found, out or Path(f"{file.stem}-explained"))
    said = found.target if found.target is not None else f"{found.score:.2f}"
    say(f"{found.task.name}  {said}")
    if found.no_speech:
        say(f"note: `predict` gives no answer here: {found.no_speech}.")
    if found.reason:
        say(f"note: no attribution. {found.reason}")
    say(f"page     {html}\npicture  {png}")


def demo(
    model: ModelArg,
    host: Annotated[str, typer.Option(help="the default can be reached from this machine alone")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="default: the first free one from 7860")] = None,
    allow: AllowOption = None,
) -> None:
    """Serve a page that takes a recording and shows what the model predicts; Ctrl-C ends it."""
    from undertone.inference.predict import load_model
    from undertone.report.demo_page import make_demo, serve

    page = make_demo(load_model(model, allow=tuple(allow or ())), Path(model).name)
    say(f"page     {serve(page, host, port)}\nCtrl-C ends it.")
    page.block_thread()


def push(
    run: ModelArg,
    repo_id: Annotated[str, typer.Argument(help="user/name on the Hub")],
    public: Annotated[bool, typer.Option(help="make the repository public; default: private")] = False,
    head_only: Annotated[
        bool, typer.Option(help="upload the head alone, with the name of the frozen upstream; LoRA: with the adapters")
    ] = False,
    speaker_names: Annotated[
        bool, typer.Option(help="publish the training speakers' names; default: their number and slow salted hashes")
    ] = False,
    dry_run: Annotated[bool, typer.Option(help="write the upload to RUN-published and send nothing")] = False,
    licence: Annotated[
        str | None, typer.Option("--license", help="of the model, by the Hub's name: apache-2.0, cc-by-nc-4.0, ...")
    ] = None,
    message: Annotated[str | None, typer.Option(help="of the commit")] = None,
    branch: Annotated[str | None, typer.Option(help="to commit to, made if missing; default: main")] = None,
    tag: Annotated[str | None, typer.Option(help="to set on the commit")] = None,
    create_pr: Annotated[bool, typer.Option(help="open a pull request instead of committing")] = False,
    token: Annotated[str | None, typer.Option(help="Hub token; default: that of `hf auth login` or HF_TOKEN")] = None,
) -> None:
    """Upload a model with its scores, pictures and card to the Hub, in one commit."""
    from undertone.publish import push as publishing

    if not dry_run:
        url = publishing.push(
            run,
            repo_id,
            private=not public,
            head_only=head_only,
            token=token,
            message=message,
            speaker_names=speaker_names,
            licence=licence,
            branch=branch,
            tag=tag,
            create_pr=create_pr,
        )
        say(f"pushed {url}")
        if licence is None:
            say("note: the card says that no licence was chosen; --license cc-by-nc-4.0, ... chooses one.")
        return
    folder, sizes = publishing.dry_run(run, repo_id, head_only=head_only, speaker_names=speaker_names, licence=licence)
    show(([], ["File", "kB"], [[name, f"{size / 1e3:.1f}"] for name, size in sizes.items()]))
    say(f"nothing was sent; {'public' if public else 'private'} {repo_id} would hold what is in {folder}")


class Target(StrEnum):
    """What a model can be exported to."""

    transformers = "transformers"
    onnx = "onnx"


def export(
    model: ModelArg,
    to: Annotated[Target, typer.Option(help="transformers: its own class, of a linear head; onnx: for onnxruntime")],
    out: Annotated[Path, typer.Option(help="a new folder")],
    task: Annotated[str | None, typer.Option(help="transformers: which task, of several")] = None,
    allow: AllowOption = None,
) -> None:
    """Export a model for programs without Undertone."""
    from undertone.downstream.model import UndertoneModel
    from undertone.inference.predict import load_model

    loaded = load_model(model, device="cpu", allow=tuple(allow or ())).model
    if not isinstance(loaded, UndertoneModel):
        raise ValueError(f"{model} is a {type(loaded.model).__name__}, which transformers reads as it is.")
    if to is Target.transformers:
        _to_transformers(loaded, out, task)
    elif task is not None:
        raise ValueError("--task is for --to transformers, whose classes have one task; ONNX takes all of them.")
    else:
        _to_onnx(loaded, out)


def _to_transformers(model: UndertoneModel, out: Path, task: str | None) -> None:
    from undertone.hub.to_transformers import to_transformers

    made = to_transformers(model, out, task)
    say(f"exported {made.class_name} to {made.folder}, task {made.task}")
    if made.left_out:
        say(f"note: transformers' class has one task; left out: {', '.join(made.left_out)}. --task NAME takes another.")
    if not made.exact_in_batches:
        say("note: in transformers padding changes this family's scores: give it one file at a time.")
    say(f'try      pipeline("audio-classification", model="{made.folder}")("FILE.wav")  # reads files with ffmpeg')


def _to_onnx(model: UndertoneModel, out: Path) -> None:
    from undertone.hub.onnx.to_onnx import CHECK_SECONDS, GRAPH, QUANTISED, to_onnx

    made = to_onnx(model, out)
    files = [(GRAPH, made.size, made.difference)]
    if made.int8 is not None:
        files.append((QUANTISED, made.int8.size, made.int8.difference))
    rows = [[name, f"{size / 1e6:.1f}", f"{difference:.1e}"] for name, size, difference in files]
    show(([], ["File", "MB", "Largest score difference from PyTorch"], rows))
    seconds = ", ".join(f"{value:g}" for value in CHECK_SECONDS)
    say(f"Differences were measured on noise of {seconds} s, of {GRAPH} in a padded batch.")
    if made.int8 is None:
        say(f"note: int8 would make this model no smaller, so that there is no {QUANTISED}.")
    else:
        say(
            f"note: in {QUANTISED} a batch moves an utterance's scores, here by up to {made.int8.in_batch:.1e}: give "
            f"it one utterance at a time, and test it on your own audio before use."
        )
    say(f"exported {made.folder}\ntry      python {made.folder / 'predict.py'} FILE.wav")
