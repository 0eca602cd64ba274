"""The hidden states of a frozen upstream for a run: computed once into the store, as far as its budget goes.

Where the frames need more room than the budget, and a head does not do with their means, there are two ways on: one
mixture of the layers a fold, with layer weights learned on the means (an approximation, and named so), or no store at
all: the upstream computes every batch anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from filelock import FileLock

from undertone.downstream.downstream import needed_states
from undertone.files import read_record, remove_folder, write_json
from undertone.training.fallback import MixtureSource, RecomputeSource, can_mix, learn_mixtures
from undertone.training.feeding import Source, StoreSource, WaveSource
from undertone.training.progress import Display
from undertone.training.run_files import MIXTURES
from undertone.upstream.base import Upstream
from undertone.upstream.budget import free_bytes, in_words, stored_bytes
from undertone.upstream.extract import ExtractionReport, extract, share_of
from undertone.upstream.store import Kind, Store

if TYPE_CHECKING:
    from undertone.corpora.manifest import Utterance
    from undertone.training.config import RunConfig
    from undertone.training.run import Run

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

    The choice is made once and kept in RUN/hidden_states.json: a run that is taken up does not change it, however
    much room there is then.

    Returns:
        what is stored (`frames`, `mean`, `mixture` or `none`), and the source.

    Raises:
        ValueError: a file that could be read when the manifest was made cannot be read now.
        OSError: the disk is full.
    """
    path, lock = run.out / "hidden_states.json", FileLock(run.out / "hidden_states.lock")

    def begun() -> dict[str, Any] | None:
        lock.acquire()
        return read_record(path, kind=str) if path.is_file() else None

    try:
        plan = first_decides(accelerator, begun)
        if plan is None:
            plan = _plan(run, accelerator)
            if accelerator.is_main_process:
                write_json(path, plan)
                remove_folder(run.out / MIXTURES)
            accelerator.wait_for_everyone()
    finally:
        lock.release()
    if plan["kind"] == "none":
        return "none", _recomputing(run, accelerator)
    mixtures = plan.get("mixtures")
    source = hidden_states(run, plan["kind"], accelerator, None if mixtures is None else list(mixtures.values()))
    return plan["kind"], source if mixtures is None else MixtureSource(source, list(mixtures), mixtures)


def _plan(run: Run, accelerator: Accelerator) -> dict[str, Any]:
    """The first of these that the budget allows: what the head needs, one mixture of the layers a fold, nothing."""
    kind = first_decides(accelerator, lambda: _affordable(run))
    if kind != "mixture":
        return {"kind": kind}
    return {"kind": kind, "mixtures": learn_mixtures(run, hidden_states(run, "mean", accelerator), accelerator)}


def _affordable(run: Run) -> str:
    """What fits into the budget; says what is needed, what is free and what follows."""
    config, say = run.config, run.display.say
    kind = needed_states(config.head, config.layer_norm) if config.mode == "frozen" else "frames"
    store = _open(run, kind)
    budget = Budget(config.store_budget, store.folder)
    todo = {item.audio_hash: item for item in run.manifest if item.audio_hash not in store}
    need = stored_bytes(run.upstream, [item.duration for item in todo.values()], kind, config.store_dtype)
    if need:
        say(f"{kind} of {len(todo)} sounds need {in_words(need)}: {budget}")
    if need <= budget.bytes:
        return kind
    seconds = [item.duration for item in {item.audio_hash: item for item in run.manifest}.values()]
    if kind == "frames" and can_mix(run):
        count = len(run.folds) + 1
        need = stored_bytes(run.upstream, seconds, "mean")
        need += stored_bytes(run.upstream, seconds, "mixture", config.store_dtype, count)
        if need <= budget.bytes:
            say(
                f"That is over the budget, and head {config.head!r} needs frames. Layer weights are learned on the "
                f"means, and {count} mixtures of the layers are stored, {in_words(need)}: AN APPROXIMATION."
            )
            return "mixture"
    say("That is over the budget: nothing is stored, the upstream computes every batch anew.")
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


def hidden_states(
    run: Run, kind: Kind, accelerator: Accelerator, mixtures: Sequence[Sequence[float]] | None = None
) -> StoreSource:
    """The run's hidden states of one kind, computed where the store lacks them."""
    store = _open(run, kind, mixtures)
    done = fill_store(run.upstream, list(run.manifest), store, accelerator, run.display)
    if done.computed:
        run.display.say(extracted_line(done))
    allowance = None if run.config.memory is None else int(run.config.memory * 1e9)
    return StoreSource(store, allowance, accelerator.device)


def _open(run: Run, kind: Kind, mixtures: Sequence[Sequence[float]] | None = None) -> Store:
    config: RunConfig = run.config
    folder = store_folder(config.store)
    return Store(folder, run.upstream, kind, config.store_dtype, mixtures, config.mixed_precision)


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
            f"{len(left)} of {len(set(keys))} sounds are not in {store.folder}. If processes run on several machines, "
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
        f"extracted {report.computed} sounds, {report.audio_seconds:.1f} audio seconds in {report.seconds:.1f} s: "
        f"{_speed(report.audio_seconds, report.seconds)}"
    )


def _speed(audio_seconds: float, seconds: float) -> str:
    return f"{audio_seconds / max(seconds, 1e-9):.1f} audio seconds per second"


def _recomputing(run: Run, accelerator: Accelerator) -> Source:
    if run.config.mode != "frozen":
        return WaveSource(run.upstream.sample_rate)  # the training itself runs the whole upstream
    kind = needed_states(run.config.head, run.config.layer_norm)
    return RecomputeSource(run.upstream.to(accelerator.device), kind == "mean", run.config.mixed_precision)
