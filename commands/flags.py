"""The flags of the commands that start a run, and the validated config they make."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

CORPUS_HELP = "emodb, ravdess, ...; a CSV / JSONL / Parquet table; a folder; hf:user/name; ./my_corpus.py; several, A+B"
CorpusArg = Annotated[str, typer.Argument(help=CORPUS_HELP)]

# The flags of train and crossval: name -> (type, field of RunConfig, help). Every other field is set by key=value.
FLAGS: dict[str, tuple[Any, str, str]] = {
    "root": (str, "root", "folder of the corpus' audio; of several, F+G in their order"),
    "upstream": (
        list[str],
        "upstream",
        "Hub id, folder, or a name (`undertone list upstreams`); several: --upstream ssl=ID --upstream mfcc",
    ),
    "head": (str, "head", "a name of undertone list heads, or ./my_head.py"),
    "mode": (str, "mode", "which weights of the upstream train: frozen, finetune, lora"),
    "tasks": (str, "tasks", "columns to predict, separated by commas: emotion,gender,arousal"),
    "protocol": (str, "protocol", "speaker, session, groups, text, corpus, split, random, auto"),
    "ladder": (bool, "ladder", "add a ladder-network reconstruction loss; ladder.NAME=value sets its options"),
    "unlabelled": (str, "unlabelled", "folder of unlabelled speech for the ladder"),
    "seed": (int, "seed", "decides initial weights, order and dropout"),
    "seeds": (str, "seeds", "train every fold with each of several seeds: 3, or 0,7,9"),
    "sweep": (list[str], "sweep", "KEY=a,b,c: values to try, chosen on dev for each fold; may be repeated"),
    "epochs": (int, "max_epochs", "passes over the training utterances"),
    "lr": (float, "learning_rate", "peak learning rate"),
    "batch-size": (int, "batch_size", "utterances per update"),
    "store": (str, "store", "folder of stored hidden states"),
    "store-budget": (
        str,
        "store_budget",
        "disk space for new hidden states, such as 20GB; default: half of the free space",
    ),
    "device": (str, "device", "auto, cpu or cuda"),
    "log-with": (str, "log_with", "follow the training with tensorboard, wandb, mlflow or comet"),
    "allow-leak": (bool, "allow_leak", "allow folds that share speakers; all scores are then marked SPEAKER-DEPENDENT"),
}


def run_command(function: Callable[..., None], joins: bool = False) -> Callable[..., None]:
    """Give a command `f(config, out, ...)` the arguments and flags that make a config, validated before it starts.

    With `joins`, words without `=` are further corpora, joined with the first one.
    """

    @functools.wraps(function)
    def command(corpus: str, **given: Any) -> None:
        """Make the config and call `function`; `wraps` puts its docstring here."""
        from undertone.recipes.systems import load_system
        from undertone.training.settings import make_config

        flags = {field: given.pop(flag.replace("-", "_")) for flag, (_, field, _) in FLAGS.items()}
        if flags["tasks"] is not None:
            flags["tasks"] = tuple(name.strip() for name in flags["tasks"].split(",") if name.strip())
        if flags["upstream"] is not None:
            flags["upstream"] = "+".join(flags["upstream"])
        if flags["sweep"] is not None:
            flags["sweep"] = {key: values for key, _, values in (word.partition("=") for word in flags["sweep"])}
        settings, file, system = given.pop("settings"), given.pop("config"), given.pop("system")
        preset = load_system(system) if system is not None else None
        words = settings or []
        if joins:
            corpus = "+".join([corpus, *(word for word in words if "=" not in word)])
            words = [word for word in words if "=" in word]
        config = make_config({"corpus": corpus, **flags}, words, file, preset)
        data = "+".join(Path(part).stem for part in corpus.split("+"))
        upstream = "+".join(Path(name).stem for name in config.code()[1:])
        out = given.pop("out") or Path("runs") / "-".join(
            [*([function.__name__] if joins else []), data, upstream, Path(config.head).stem]
        )
        function(config=config, out=out, **given)

    def parameter(name: str, annotation: Any, default: Any = None) -> inspect.Parameter:
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)

    shared = [
        parameter("corpus", CorpusArg, inspect.Parameter.empty),
        parameter(
            "settings", Annotated[list[str] | None, typer.Argument(help="key=value; undertone list settings shows all")]
        ),
        *[
            parameter(flag.replace("-", "_"), Annotated[kind | None, typer.Option(f"--{flag}", help=text)])
            for flag, (kind, _, text) in FLAGS.items()
        ],
        parameter(
            "system", Annotated[str | None, typer.Option(help="a preset (undertone list systems) or ./my_system.py")]
        ),
        parameter("config", Annotated[Path | None, typer.Option(help="YAML or JSON file of settings")]),
        parameter("out", Annotated[Path | None, typer.Option(help="run folder; resumes if it exists")]),
    ]
    own = inspect.signature(function, eval_str=True).parameters
    rest = [parameter(name, own[name].annotation, own[name].default) for name in own if name not in ("config", "out")]
    signature = inspect.Signature([*shared, *rest])
    command.__signature__ = signature  # type: ignore[attr-defined]
    command.__annotations__ = {name: value.annotation for name, value in signature.parameters.items()}
    return command
