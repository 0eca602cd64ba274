"""Commands on stored hidden states: extract; store list, verify, prune."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from undertone.commands.examples import epilog
from undertone.commands.flags import CorpusArg
from undertone.commands.terminal import say, show

SHORT = 12  # letters of a store's name that are shown
StoreOption = Annotated[Path | None, typer.Option("--store", help="folder of all stores; default: the user's")]
stores = typer.Typer(no_args_is_help=True, help="Stored hidden states: list, verify, prune.")


def extract(
    corpus: CorpusArg,
    settings: Annotated[list[str] | None, typer.Argument(help="corpus.NAME=value, upstream.NAME=value")] = None,
    upstream: Annotated[str, typer.Option(help="Hub id, folder, fbank, mfcc, spectrogram")] = "fbank",
    root: Annotated[str | None, typer.Option(help="folder of the corpus' audio")] = None,
    store: Annotated[str | None, typer.Option(help="folder of stored hidden states")] = None,
    kind: Annotated[Literal["frames", "mean"], typer.Option(help="mean is enough for the linear head")] = "frames",
    dtype: Annotated[str, typer.Option(help="float16, bfloat16, float32, int8")] = "float16",
    store_budget: Annotated[
        str | None, typer.Option(help="disk space for new hidden states, such as 20GB; default: half of the free space")
    ] = None,
    mixed_precision: Annotated[str, typer.Option(help="of the upstream: no, bf16, fp16, int8, auto")] = "no",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
) -> None:
    """Run a frozen upstream once over a corpus; runs with the same upstream and store then only read its states."""
    from undertone.common.console import Display
    from undertone.experiments.hidden_states import extract_corpus, extracted_line
    from undertone.training.settings import make_config

    flags = {"corpus": corpus, "upstream": upstream, "root": root, "store": store, "store_dtype": dtype}
    flags |= {"store_budget": store_budget, "mixed_precision": mixed_precision, "device": device}
    say(extracted_line(extract_corpus(make_config(flags, settings or []), kind, Display())))


@stores.command("list", epilog=epilog("store list"))
def list_stores(store: StoreOption = None) -> None:
    """List the stores: upstream, kind, dtype, utterances, bytes, last use."""
    from undertone.experiments.hidden_states import store_folder
    from undertone.upstream.store import manage as found
    from undertone.upstream.store.manage import in_words

    root = store_folder(store)
    rows = [
        [
            info.folder.name[:SHORT],
            info.upstream,
            info.kind,
            info.dtype if info.precision == "no" else f"{info.dtype} ({info.precision})",
            str(info.utterances),
            in_words(info.num_bytes),
            datetime.fromtimestamp(info.last_used).strftime("%Y-%m-%d %H:%M"),
        ]
        for info in found.list_stores(root)
    ]
    show(([str(root)], ["store", "upstream", "kind", "dtype", "utterances", "bytes", "last used"], rows))


@stores.command(epilog=epilog("store verify"))
def verify(store: StoreOption = None) -> None:
    """Check every shard against its checksum; exit status 1 if one is damaged."""
    from undertone.experiments.hidden_states import store_folder
    from undertone.upstream.store.manage import verify_stores

    checked = list(verify_stores(store_folder(store)))
    damaged = [(shard, damage) for shard, damage in checked if damage is not None]
    for shard, damage in damaged:
        say(f"{shard}: {damage}")
    if damaged:
        say(f"{len(damaged)} of {len(checked)} shards are damaged; the next run that needs them computes them again.")
        sys.exit(1)
    say(f"All {len(checked)} shards are intact.")


@stores.command(epilog=epilog("store prune"))
def prune(
    names: Annotated[
        list[str] | None, typer.Argument(help="names from `undertone store list`; none: those not used")
    ] = None,
    store: StoreOption = None,
    days: Annotated[float, typer.Option(min=0, help="without names: days without use")] = 30.0,
) -> None:
    """Remove stores by name, or all that were not used for some time."""
    from undertone.experiments.hidden_states import store_folder
    from undertone.upstream.store.manage import in_words, prune_stores

    removed = prune_stores(store_folder(store), names or (), days)
    for info in removed:
        say(f"removed {info.folder.name[:SHORT]} {info.upstream} {info.kind} {info.dtype}: {in_words(info.num_bytes)}")
    say(f"{len(removed)} stores removed, {in_words(sum(info.num_bytes for info in removed))} freed")
