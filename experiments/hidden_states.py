"""The hidden states of a frozen upstream for a run: computed once into the store, as far as its budget goes.

Where the frames need more room than the budget, and a head does not do with their means, there are two ways on: one
mixture of the layers a fold, with layer weights learned on the means (an approximation, and named so), or no store at
all: the upstream computes every batch anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from filelock import FileLock

from undertone.common.console import Display
from undertone.common.files import read_record, remove_folder, safe_name, write_json
from undertone.corpora import load_corpus
from undertone.corpora.prepare import prepare
from undertone.downstream.head import head_class
from undertone.downstream.network import needed_states
from undertone.experiments.run_folder import MIXTURES
from undertone.training.accelerator import make_accelerator, with_precision_of_device
from undertone.training.config import RunConfig
from undertone.training.sources import EVERYONE, MixtureSource, RecomputeSource, Source, StoreSource, WaveSource
from undertone.training.trainer import Trainer, total_steps
from undertone.upstream import load_upstream
from undertone.upstream.base import Upstream
from undertone.upstream.store.extract import ExtractionReport, clips_of_process, extract
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
            clips_of_process(todo, accelerator.process_index, accelerator.num_processes),
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


# ---- Where frames do not fit into the store: one mixture of the layers a fold, or the upstream at every batch.

PROBE = "linear"  # the head that the layer weights are learned with; it needs nothing but means


def can_mix(run: Run) -> bool:
    """Whether layer weights can be learned on means: a probe predicts the tasks, and layers are mixed as they are.

    Nor is any fold called `EVERYONE`: its weights would be those that have learned from its test part.
    """
    config, levels = run.config, head_class(PROBE).levels
    if any(fold.name == EVERYONE for fold in run.folds):
        return False
    learned = config.mode == "frozen" and config.layers == "sum" and "layers" not in config.sweep
    return learned and not config.layer_norm and all(t.level in levels for t in run.tasks)


def learn_mixtures(run: Run, means: Source, accelerator: Accelerator) -> dict[str, list[float]]:
    """Layer weights of every fold, learned with a linear probe on the means of its train part and chosen on its dev.

    Test utterances have no part in it, which is why each fold has weights of its own. The model of all speakers gets
    the mean of the folds' weights.

    Args:
        run: its settings, but for the head, are the probe's.
        means: (B, L, 1, D).
        accelerator: of the run.

    Returns:
        {fold: (L,) weights}, and `EVERYONE`'s.
    """
    probes = {"head": PROBE, "head_options": {}, "ladder": False, "seeds": (), "sweep": {}}
    config = run.config.model_copy(update=probes)
    probe, found = replace(run, config=config, source=means), {}
    for fold in run.folds:
        train, dev = run.manifest.select(fold.train), run.manifest.select(fold.dev)
        module = probe.new_downstream(fold.name)
        folder = run.out / MIXTURES / safe_name(fold.name)
        with run.display.bar(f"layer weights of fold {fold.name}") as advance:
            trainer = Trainer(
                config,
                run.tasks,
                means,
                module,
                folder,
                accelerator,
                lambda done, last, score: advance(done, last, ""),
            )
            trainer.fit(train, dev, total_steps(config, len(train)))
        found[fold.name] = module.layer_sum.layer_weights().tolist()
    return found | {EVERYONE: [fmean(weights) for weights in zip(*found.values(), strict=True)]}


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
    display.say(f"{kind} of {len(todo)} sounds need {in_words(need)}: {budget}")
    if need > budget.bytes:
        means = in_words(stored_bytes(upstream, todo.values(), "mean"))
        raise ValueError(
            f"{kind} need {in_words(need)}, the budget is {in_words(budget.bytes)}. Give a larger --store-budget or a "
            f"smaller --dtype; --kind mean, enough for head linear, needs {means}."
        )
    return fill_store(upstream, list(prepared.manifest), store, accelerator, display)
