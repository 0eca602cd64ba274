"""The hidden states of a frozen upstream for a run: computed once into the store, as far as its budget goes.

Where they need more room than the budget, nothing is stored: the upstream computes every batch again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar, cast, get_args

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from filelock import FileLock

from undertone.common.console import Display
from undertone.common.files import read_record, write_json
from undertone.corpora import load_corpus
from undertone.corpora.prepare import prepare
from undertone.downstream.network import needed_states
from undertone.training.accelerator import make_accelerator, with_precision_of_device
from undertone.training.config import RunConfig
from undertone.training.sources import RecomputeSource, Source, StoreSource, WaveSource
from undertone.upstream import load_upstream
from undertone.upstream.base import Upstream
from undertone.upstream.store.extract import ExtractionReport, extract, share_of
from undertone.upstream.store.manage import free_bytes, in_words, stored_bytes
from undertone.upstream.store.store import Kind, Store

if TYPE_CHECKING:
    from undertone.corpora.manifest import Utterance
    from undertone.experiments.run import Run


STORE = Path("~/.cache/undertone/store")
Answer = TypeVar("Answer")


def first_decides(accelerator: Accelerator, decide: Callable[[], Answer]) -> Answer:
    """The first process's answer, in all of them: each looking for itself could find the files in another state."""
    answer = [decide() if accelerator.is_main_process else None]
    broadcast_object_list(answer)
    return cast(Answer, answer[0])


def store_folder(store: str | Path | None) -> Path:
    """The folder of all stores: the one asked for, or the user's."""
    return Path(store or STORE).expanduser()


def frozen_source(run: Run, accelerator: Accelerator) -> tuple[str, Source]:
    """What a run whose upstream, or a part of it, is frozen trains from.

    The choice is made once and kept in RUN/hidden_states.json: a resumed run does not change it, however much room
    there is then.

    Returns:
        what is stored (`frames`, `mean` or `none`), and the source.

    Raises:
        ValueError: a file that could be read when the manifest was made cannot be read now, or the run was started by
            a version that stored mixtures of the layers.
        OSError: the disk is full.
    """
    path, lock = run.out / "hidden_states.json", FileLock(run.out / "hidden_states.lock")

    def begun() -> str | None:
        lock.acquire()
        return str(read_record(path, kind=str)["kind"]) if path.is_file() else None

    try:
        kind = first_decides(accelerator, begun)
        if kind is None:
            kind = first_decides(accelerator, lambda: _affordable(run))
            if accelerator.is_main_process:
                write_json(path, {"kind": kind})
            accelerator.wait_for_everyone()
    finally:
        lock.release()
    if kind == "none":
        return kind, _recomputing(run, accelerator)
    if kind not in get_args(Kind):
        raise ValueError(
            f"{run.out} stores hidden states of the kind {kind!r}, which this version of undertone does not train on. "
            f"Choose another --out; where frames are over the budget, store_dtype=int8 halves them."
        )
    return kind, hidden_states(run, cast(Kind, kind), accelerator)


def _affordable(run: Run) -> str:
    """What is stored within the budget, or `none`; says what is needed, what is free and what follows."""
    config, say = run.config, run.display.say
    kind = needed_states(config.head, config.layer_norm) if config.mode == "frozen" else "frames"
    store = _open(run, kind)
    budget = Budget(config.store_budget, store.folder)
    todo = {item.audio_hash: item for item in run.manifest if item.audio_hash not in store}
    need = stored_bytes(run.upstream, [item.duration for item in todo.values()], kind, config.store_dtype)
    if need:
        say(f"{kind} of {len(todo)} clips need {in_words(need)}: {budget}")
    if need <= budget.bytes:
        return kind
    advice = "" if kind == "mean" or config.store_dtype == "int8" else " store_dtype=int8 halves what frames need."
    say(f"That is over the budget: nothing is stored, the upstream computes every batch again.{advice}")
    return "none"


class Budget:
    """How many bytes may be stored: as many as were asked for, or half of what is free.

    Args:
        wanted: bytes; None: half of the free.
        folder: of the store.
    """

    def __init__(self, wanted: int | None, folder: Path) -> None:
        self.free = free_bytes(folder)
        self.bytes = self.free // 2 if wanted is None else wanted

    def __str__(self) -> str:
        return f"{in_words(self.free)} are free, the budget is {in_words(self.bytes)} (store_budget=20GB sets it)"


def hidden_states(run: Run, kind: Kind, accelerator: Accelerator) -> StoreSource:
    """The run's hidden states of one kind, computed where the store lacks them."""
    store = _open(run, kind)
    done = fill_store(run.upstream, list(run.manifest), store, accelerator, run.display)
    if done.computed:
        run.display.say(extracted_line(done))
    allowance = None if run.config.memory is None else int(run.config.memory * 1e9)
    return StoreSource(store, allowance, accelerator.device)


def _open(run: Run, kind: Kind) -> Store:
    config: RunConfig = run.config
    folder = store_folder(config.store)
    return Store(folder, run.upstream, kind, config.store_dtype, config.mixed_precision)


def fill_store(
    upstream: Upstream, utterances: Sequence[Utterance], store: Store, accelerator: Accelerator, display: Display
) -> ExtractionReport:
    """Run a frozen upstream once over what the store lacks, each process its share.

    Returns:
        what all processes did together.

    Raises:
        ValueError: files cannot be read, or the processes do not share the store's folder.
        OSError: the disk is full.
    """
    keys = [item.audio_hash for item in utterances]
    lacking = set(first_decides(accelerator, lambda: store.missing(keys)))
    todo = [item for item in utterances if item.audio_hash in lacking]
    began = time.monotonic()
    with display.bar(f"{upstream.name}: hidden states, s") as advance:
        own = extract(
            upstream,
            share_of(todo, accelerator.process_index, accelerator.num_processes),
            store,
            device=accelerator.device,
            progress=lambda done, total: advance(done, total, _speed(done, time.monotonic() - began)),
        )
    accelerator.wait_for_everyone()
    done = _together(gather_object([own]))
    if done.broken:
        listing = "; ".join(f"{path}: {reason}" for path, reason in done.broken[:3])
        raise ValueError(f"{len(done.broken)} files cannot be read any more: {listing}. Restore them, or begin anew.")
    if left := store.missing(keys):  # looks at what the other processes have written
        raise ValueError(
            f"{len(left)} of {len(set(keys))} clips are not in {store.folder}. If processes run on several machines, "
            f"give a folder that all of them share: store=FOLDER."
        )
    return done


def _together(reports: Sequence[ExtractionReport]) -> ExtractionReport:
    return ExtractionReport(
        audio_seconds=sum(report.audio_seconds for report in reports),
        seconds=max(report.seconds for report in reports),
        computed=sum(report.computed for report in reports),
        reused=sum(report.reused for report in reports),
        broken=[entry for report in reports for entry in report.broken],
    )


def extracted_line(report: ExtractionReport) -> str:
    """What an extraction did, in one line."""
    return (
        f"extracted {report.computed} clips, {report.audio_seconds:.1f} audio seconds in {report.seconds:.1f} s: "
        f"{_speed(report.audio_seconds, report.seconds)}"
    )


def _speed(audio_seconds: float, seconds: float) -> str:
    return f"{audio_seconds / max(seconds, 1e-9):.1f} audio seconds per second"


def _recomputing(run: Run, accelerator: Accelerator) -> Source:
    if run.config.mode != "frozen":
        return WaveSource(run.upstream.sample_rate)  # the training itself runs the whole upstream
    kind = needed_states(run.config.head, run.config.layer_norm)
    return RecomputeSource(run.upstream.to(accelerator.device), kind == "mean", run.config.mixed_precision)


# ---- A corpus through a frozen upstream, ahead of any run.


def extract_corpus(config: RunConfig, kind: Literal["frames", "mean"], display: Display) -> ExtractionReport:
    """Store the hidden states of a whole corpus; a run with the same upstream and store then only reads them.

    Args:
        config: its corpus, root, upstream, store, store_dtype, store_budget, mixed_precision and device count here.
        kind: all frames, or their means, which are enough for a head such as `linear`.
        display: where progress is shown.

    Raises:
        ValueError: the states need more room than the budget, or the corpus or upstream cannot be read.
        OSError: the disk is full.
    """
    corpus = load_corpus(config.corpus, config.corpus_options)
    upstream = load_upstream(config.upstream, revision=config.revision, options=config.upstream_options or None)
    config, fallen_back = with_precision_of_device(config)
    if fallen_back:
        display.say(fallen_back)
    accelerator = make_accelerator(config)
    folder = store_folder(config.store)
    with display.bar(f"checking {corpus.name}") as advance:
        prepared = prepare(
            corpus,
            Path(config.root).expanduser() if config.root else None,
            strict=config.strict,
            progress=lambda done, total: advance(done, total, ""),
            trusted=folder / "audio",
        )
    for path, reason in prepared.broken:
        display.say(f"note: set aside {path}: {reason}")
    store = Store(folder, upstream, kind, config.store_dtype, precision=config.mixed_precision)
    todo = {item.audio_hash: item.duration for item in prepared.manifest if item.audio_hash not in store}
    need = stored_bytes(upstream, todo.values(), kind, config.store_dtype)
    budget = Budget(config.store_budget, store.folder)
    display.say(f"{kind} of {len(todo)} clips need {in_words(need)}: {budget}")
    if need > budget.bytes:
        means = in_words(stored_bytes(upstream, todo.values(), "mean"))
        raise ValueError(
            f"{kind} need {in_words(need)}, the budget is {in_words(budget.bytes)}. Give a larger --store-budget or a "
            f"smaller --dtype; --kind mean, enough for head linear, needs {means}."
        )
    return fill_store(upstream, list(prepared.manifest), store, accelerator, display)
