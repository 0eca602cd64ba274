"""The hidden states of a frozen upstream for a run: computed once into the store, as far as its budget goes.

Where they need more room than the budget, nothing is stored: the upstream computes every batch again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from accelerate import Accelerator
from accelerate.utils import gather_object
from filelock import FileLock
from torch import Tensor

from undertone.audio.video import find_video
from undertone.common.console import Display
from undertone.common.files import read_record, write_json
from undertone.corpora import load_corpus
from undertone.corpora.corpus import Corpus
from undertone.corpora.prepare import Prepared, prepare_corpus
from undertone.downstream.network import needed_states
from undertone.training.accelerator import accelerator_of, first_decides, with_precision
from undertone.training.config import RunConfig
from undertone.training.sources import RecomputeSource, Source, StoreSource, StreamsSource, WaveSource
from undertone.upstream import load_upstream
from undertone.upstream.base import Upstream
from undertone.upstream.hf.replay import can_replay
from undertone.upstream.hf.upstream import HFUpstream
from undertone.upstream.precision import own_precision
from undertone.upstream.store.extract import ExtractionReport, clips_of_process, extract
from undertone.upstream.store.manage import free_bytes, in_words, stored_bytes
from undertone.upstream.store.store import Kind, Store
from undertone.upstream.streams import Streams
from undertone.upstream.types import ALONE

if TYPE_CHECKING:
    from undertone.corpora.manifest import Utterance

STORE = Path("~/.cache/undertone/store")


def store_folder(store: str | Path | None) -> Path:
    """The folder of all stores: the one asked for, or the user's."""
    return Path(store or STORE).expanduser()


def prepare_from_config(config: RunConfig, corpus: Corpus | None = None, display: Display | None = None) -> Prepared:
    """The corpus of a config; files that an earlier run found good and that have not changed are not read again."""
    corpus = corpus or load_corpus(config.corpus, config.corpus_options)
    known = store_folder(config.store) / "audio"
    return prepare_corpus(corpus, config.root, display or Display(), strict=config.strict, trusted=known)


def open_upstream(config: RunConfig) -> Upstream:
    """The upstream of a config, in eval mode, or its several ones as `Streams`."""
    parts = {
        name: load_upstream(own.upstream, revision=own.revision, options=own.upstream_options or None)
        for name, own in config.of_streams().items()
    }
    return Streams(parts).eval() if config.has_streams else parts[ALONE]


def any_video(utterances: Iterable[Utterance]) -> bool:
    """Whether one of the clips has pictures."""
    return any(find_video(item.path, item.video) is not None for item in utterances)


def lacking_video(upstream: Upstream, utterances: Sequence[Utterance]) -> list[str]:
    """A sentence on clips without video, which train and are scored on the other streams; none where all have it.

    Or that a model whose training had none of them looks at none.

    Raises:
        ValueError: a video is damaged, or a clip has none and there is no other stream.
    """
    if not upstream.sees:
        blind = any(type(part).sees for part in upstream.streams.values())
        return ["audio only: no clip of the model's training had video, and it looks at none"] if blind else []
    lack = [item.id for item in utterances if find_video(item.path, item.video) is None]
    others = ", ".join(name for name, part in upstream.streams.items() if not part.sees)
    count = f"{len(lack)} of {len(utterances)} clips have no video"
    if lack and not others:
        raise ValueError(f"{count}, such as {lack[0]}. Leave them out, or give a stream of sound too.")
    if len(lack) == len(utterances):
        return [f"audio only: none of {len(lack)} clips has video; all train and are scored on {others} alone"]
    return [f"{count}, such as {lack[0]}: these train and are scored on {others} alone"] if lack else []


def trains_top_from_store(upstream: Upstream, config: RunConfig) -> bool:
    """Whether only the top layers are trained and the states of the frozen ones below them can be stored."""
    top = config.top_layers
    return top is not None and isinstance(upstream, HFUpstream) and can_replay(upstream, top)


def run_source(
    config: RunConfig,
    upstream: Upstream,
    utterances: Sequence[Utterance],
    out: Path,
    accelerator: Accelerator,
    display: Display,
) -> tuple[str, Source]:
    """The source of a run: the store of what is frozen, also of the blocks below the top ones; audio for what learns.

    Returns:
        what is stored (`frames`, `mean` or `none`; of several streams `ssl: none, mfcc: frames`), and the source.
    """
    kinds: dict[str, str] = {}
    sources: dict[str, Source] = {}
    for name, own in config.of_streams().items():
        part, path = upstream.streams[name], out / f"hidden_states{f'.{name}' if config.has_streams else ''}.json"
        is_frozen = own.mode == "frozen"
        needed: Kind = needed_states(own.head, own.layer_norm) if is_frozen else "frames"
        replays = trains_top_from_store(part, own) and not config.has_streams and not own.augment.on_waves
        kinds[name] = "none"
        if is_frozen or replays:
            affordable = partial(_affordable, own, part, utterances, needed, display)
            kinds[name] = _choice_of_start(path, accelerator, affordable)
        if kinds[name] != "none":
            store = _store(own, part, cast(Kind, kinds[name]))
            done = fill_store(part, utterances, store, accelerator, display)
            if done.computed:
                display.say(extracted_line(done))
            allowance = None if own.memory is None else int(own.memory * 1e9)
            sources[name] = StoreSource(store, allowance, accelerator.device)
        elif config.trained == "frozen":
            sources[name] = RecomputeSource(part.to(accelerator.device), needed == "mean", own.mixed_precision)
        else:
            sources[name] = WaveSource(part.sample_rate, part.sees)  # the training itself runs the whole upstream
    if config.has_streams:
        return ", ".join(f"{name}: {kind}" for name, kind in kinds.items()), StreamsSource(sources)
    return kinds[ALONE], sources[ALONE]


def _choice_of_start(path: Path, accelerator: Accelerator, affordable: Callable[[], str]) -> str:
    """What is stored: `affordable()`, once, kept in `path`; a resumed run keeps it, however much room there is then."""
    lock = FileLock(path.with_suffix(".lock"))

    def read() -> str | None:
        """The choice of an earlier start; the lock is held from here on."""
        lock.acquire()
        return str(read_record(path, kind=str)["kind"]) if path.is_file() else None

    try:
        kind = first_decides(accelerator, read)
        if kind is None:
            kind = first_decides(accelerator, affordable)
            if accelerator.is_main_process:
                write_json(path, {"kind": kind})
            accelerator.wait_for_everyone()
    finally:
        lock.release()
    if kind not in ("none", *get_args(Kind)):
        raise ValueError(
            f"{path.parent} stores hidden states of the kind {kind!r}, which this version does not train on. "
            f"Choose another --out; where frames are over the budget, store_dtype=int8 halves them."
        )
    return kind


def _affordable(
    config: RunConfig, upstream: Upstream, utterances: Sequence[Utterance], needed: Kind, display: Display
) -> str:
    """What fits into the budget, said where that is nothing."""
    need, budget = _room(config, upstream, utterances, needed, display)
    if need <= budget:
        return needed
    advice = "" if needed == "mean" or config.store_dtype == "int8" else " store_dtype=int8 halves what frames need."
    display.say(f"That is over the budget: nothing is stored, the upstream computes every batch again.{advice}")
    return "none"


def stored_source(
    upstream: Upstream, kind: Kind, utterances: Sequence[Utterance], accelerator: Accelerator, display: Display
) -> Source:
    """The states of a frozen upstream from the user's store, where those that are not there yet are put first."""
    sources: dict[str, Source] = {}
    for name, part in upstream.streams.items():
        store = Store(store_folder(None), part, kind)
        fill_store(part, utterances, store, accelerator, display)
        sources[name] = StoreSource(store, device=accelerator.device)
    return StreamsSource(sources) if isinstance(upstream, Streams) else sources[ALONE]


def _store(config: RunConfig, upstream: Upstream, kind: Kind) -> Store:
    precision = own_precision(upstream, config.mixed_precision)
    return Store(store_folder(config.store), upstream, kind, config.store_dtype, precision)


def _room(
    config: RunConfig, upstream: Upstream, utterances: Sequence[Utterance], kind: Kind, display: Display
) -> tuple[int, int]:
    """Bytes that the states yet to be stored need, and the budget: the setting, or half of the free disk.

    Frames of augmented copies are counted as if none were stored: which are, only their audio tells.
    """
    store = _store(config, upstream, kind)
    seconds = {key: item.duration for item in utterances if (key := store.key(item)) not in store}
    copies = [item.duration for item in utterances] * (config.augment.copies if kind == "frames" else 0)
    need = stored_bytes(upstream, [*seconds.values(), *copies], kind, config.store_dtype)
    free = free_bytes(store.folder)
    budget = free // 2 if config.store_budget is None else config.store_budget
    if need:
        display.say(
            f"{kind} of {len(seconds)} clips {f'and up to {len(copies)} copies ' if copies else ''}need "
            f"{in_words(need)}: {in_words(free)} are free, the budget is {in_words(budget)} (store_budget=20GB sets it)"
        )
    return need, budget


def fill_store(
    upstream: Upstream,
    utterances: Sequence[Utterance],
    store: Store,
    accelerator: Accelerator,
    display: Display,
    read: Callable[[Utterance], Tensor] | None = None,
) -> ExtractionReport:
    """Run a frozen upstream once over the utterances that the store lacks, divided among the processes.

    `read` gives the samples of an utterance that are not those of its file. Returns what all processes did together. A
    ValueError names files that cannot be read, or says that the processes do not share the store's folder.
    """
    keys = [store.key(item) for item in utterances]
    lacking = set(first_decides(accelerator, lambda: store.missing(keys)))
    todo = [item for key, item in zip(keys, utterances, strict=True) if key in lacking]
    started = time.monotonic()
    with display.bar(f"{upstream.name}: hidden states{' of copies' if read else ''}, s") as advance:
        own = extract(
            upstream,
            clips_of_process(todo, accelerator.process_index, accelerator.num_processes, store.key),
            store,
            device=accelerator.device,
            progress=lambda done, total: advance(done, total, _speed(done, time.monotonic() - started)),
            read=read,
        )
    accelerator.wait_for_everyone()
    reports: list[ExtractionReport] = gather_object([own])
    if broken := [entry for report in reports for entry in report.broken]:
        listing = "; ".join(f"{path}: {reason}" for path, reason in broken[:3])
        raise ValueError(
            f"{len(broken)} files can no longer be read: {listing}. Restore them, or start again with another --out."
        )
    if left := store.missing(keys):  # sees what the other processes have written
        raise ValueError(
            f"{len(left)} of {len(set(keys))} clips are not in {store.folder}. If processes run on several machines, "
            f"give a folder that all of them share: store=FOLDER."
        )
    return _together(reports, max(report.seconds for report in reports))


def _together(reports: Sequence[ExtractionReport], seconds: float) -> ExtractionReport:
    """What several extractions did in this time; none has met a broken file."""
    return ExtractionReport(
        audio_seconds=sum(report.audio_seconds for report in reports),
        seconds=seconds,
        computed=sum(report.computed for report in reports),
        reused=sum(report.reused for report in reports),
        broken=[],
    )


def extracted_line(report: ExtractionReport) -> str:
    """What an extraction did, in one line."""
    return (
        f"extracted {report.computed} clips, {report.audio_seconds:.1f} audio seconds in {report.seconds:.1f} s: "
        f"{_speed(report.audio_seconds, report.seconds)}"
    )


def _speed(audio_seconds: float, seconds: float) -> str:
    return f"{audio_seconds / max(seconds, 1e-9):.1f} audio seconds per second"


def extract_corpus(config: RunConfig, kind: Kind, display: Display) -> ExtractionReport:
    """Store the hidden states of a whole corpus; a run with the same upstream and store then only reads them.

    Args:
        config: its corpus, root, upstream, store, store_dtype, store_budget, mixed_precision and device count here.
        kind: all frames, or their means, which are enough for a head such as `linear`.
        display: where progress is shown.
    """
    upstream = open_upstream(config)
    config, changed = with_precision(config, upstream)
    if changed:
        display.say(changed)
    accelerator = accelerator_of(config)
    prepared = prepare_from_config(config, display=display)
    for path, reason in prepared.broken:
        display.say(f"note: skipped {path}: {reason}")
    reports = [_extract(config, part, kind, prepared, accelerator, display) for part in upstream.streams.values()]
    return _together(reports, sum(report.seconds for report in reports))


def _extract(
    config: RunConfig, upstream: Upstream, kind: Kind, prepared: Prepared, accelerator: Accelerator, display: Display
) -> ExtractionReport:
    """`extract_corpus` for one upstream."""
    need, budget = _room(config, upstream, list(prepared.manifest), kind, display)
    if need > budget:
        seconds = {item.audio_hash: item.duration for item in prepared.manifest}
        means = in_words(stored_bytes(upstream, seconds.values(), "mean"))
        raise ValueError(
            f"{kind} need {in_words(need)}, the budget is {in_words(budget)}. Give a larger --store-budget or a "
            f"smaller --dtype; --kind mean, enough for head linear, needs {means}."
        )
    return fill_store(upstream, list(prepared.manifest), _store(config, upstream, kind), accelerator, display)
