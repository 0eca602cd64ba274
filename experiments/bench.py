"""`undertone bench`: how fast this machine is with an upstream, measured on a corpus in about two minutes.

What is measured runs as in a run (the extraction, the trainer, the stack of linear heads), on a sample of the corpus;
`bench_estimate` concludes from it what whole trainings take.
"""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import torch
from accelerate import Accelerator
from pydantic import ValidationError
from torch import Tensor, nn

from undertone.common.console import Display
from undertone.common.files import draft_folder
from undertone.common.processes import can_fork, one_thread
from undertone.corpora import load_corpus
from undertone.corpora.folds import Fold, check_folds
from undertone.corpora.manifest import Utterance
from undertone.downstream.head import head_class
from undertone.downstream.network import needed_states
from undertone.experiments.bench_estimate import LARGEST, estimate_all, recommend
from undertone.experiments.bench_extraction import Clock, Sampling, clips_for, name_of, precisions, spread
from undertone.experiments.folds_at_once import processes_in_memory
from undertone.experiments.hidden_states import open_upstream, prepare_from_config, store_folder
from undertone.experiments.run import Run, adapted
from undertone.experiments.run_folder import RunFolder
from undertone.experiments.stacked_folds import stackable
from undertone.experiments.start_record import versions
from undertone.training.accelerator import accelerator_of, with_precision
from undertone.training.config import HeadSettings, LadderSettings, RunConfig, explain, trials
from undertone.training.seeding import epoch_batches
from undertone.training.sources import Source, StoreSource, WaveSource
from undertone.training.stack.stacked_trainer import PER_RUN, StackedTrainer, TrainingGroup
from undertone.training.targets import choose_tasks
from undertone.training.trainer import Trainer
from undertone.upstream.base import Upstream
from undertone.upstream.precision import own_precision
from undertone.upstream.store.manage import free_bytes, stored_bytes
from undertone.upstream.store.store import Kind, Store

TRAININGS: dict[str, dict[str, Any]] = {
    "linear": {"head": "linear", "mode": "frozen"},
    "attention": {"head": "attention", "mode": "frozen"},
    "lora": {"head": "attention", "mode": "lora"},
    "finetune": {"head": "attention", "mode": "finetune"},
}
"""{name: the settings that make it}."""

SECONDS = 100.0  # of measuring; loading and the preparation of the corpus are beside it
FRACTIONS = {"linear": 0.04, "attention": 0.06, "lora": 0.25, "finetune": 0.25}  # of it, for the updates
EXTRACTION_FRACTIONS = {"no": 0.1, "bf16": 0.06, "fp16": 0.06, "int8": 0.06}  # for each kind that is stored
MOST_CLIPS = 4000  # of a fold in the stack of linear heads
MEMORY_FRACTION = 0.8  # of the free memory that a batch may take: what autograd keeps is not all that an update needs
BUSY = 0.5  # load of a core above which the figures are called slower than the machine is

_ALLOWED_HEADS = tuple(dict.fromkeys(settings["head"] for settings in TRAININGS.values()))
_NOT_TIMED = (
    *(name for name in HeadSettings.model_fields if name not in ("head", "layer_norm")),
    *LadderSettings.model_fields,
    *("mode", "streams", "top_layers", "augment", "refit_on_dev", "dev", "postprocess"),
    *("task_weighting", "adversarial", "not_finite", "sampling"),
)

_SWEPT = tuple(name for name in PER_RUN if name != "layers")


def bench(
    config: RunConfig, display: Display, seconds: float = SECONDS, only: Sequence[str] = tuple(TRAININGS)
) -> dict[str, Any]:
    """Measure this machine with the config's upstream on its corpus, for about so many seconds.

    Args:
        config: its data, upstream, optimisation, evaluation, store and output settings count; head and mode are those
            of `TRAININGS`.
        display: where progress is shown.
        seconds: of measuring, without loading and preparing.
        only: of `TRAININGS`.

    Returns:
        JSON: machine, corpus, `extraction` in each precision, `trainings` with what an update takes, the largest batch
        and an estimate of the whole, `recommended`, `notes`.

    Raises:
        ValueError: a setting that is not timed, or whatever a run refuses of corpus, folds, tasks and upstream.
    """
    check_timed(config)
    notes = _busy_note()
    corpus = load_corpus(config.corpus, config.corpus_options)
    corpus.check_protocol(config.protocol)
    upstream = open_upstream(config)
    config, changed = with_precision(config, upstream)
    notes += [changed] if changed else []
    accelerator = accelerator_of(config)
    prepared = prepare_from_config(config, corpus, display)
    notes += prepared.warnings + [f"skipped {path}: {reason}" for path, reason in prepared.broken]
    manifest = prepared.manifest
    folds = corpus.folds(manifest, config.protocol, config.num_folds, config.seed)
    check_folds(folds, manifest, config.allow_leak)
    tasks = choose_tasks(manifest, config.tasks, config.task_weights, config.soft_labels)
    configs, left_out = _training_configs(config, only, upstream.to(accelerator.device))
    notes += left_out
    store = store_folder(config.store)
    store.mkdir(parents=True, exist_ok=True)
    with draft_folder(store / "bench") as scratch, display.bar("measuring, s") as advance:
        run = Run(
            config, RunFolder(scratch / "run"), corpus, manifest, folds, tasks, upstream,
            WaveSource(upstream.sample_rate), Display(quiet=True),
        )  # fmt: skip
        clock = Clock(advance, seconds)
        clips = clips_for(upstream, manifest)
        sampling = Sampling(upstream, clips, config.store_dtype, accelerator.device, scratch, clock)
        kinds = dict.fromkeys(stored_kind(own) or "mean" for own in configs.values())
        used = own_precision(upstream, config.mixed_precision)
        extraction = [
            sampling.row(precision, kind, EXTRACTION_FRACTIONS[precision] * seconds)
            for precision in precisions(accelerator.device, upstream, used)
            for kind in kinds
        ]
        in_run = {row["kind"]: row for row in extraction if row["precision"] == name_of(used)}
        speed = max(row["audio_s_per_s"] for row in in_run.values())
        bench_run = _Bench(run, accelerator, scratch, seconds, clock)
        trainings = [bench_run.training(name, own, speed) for name, own in configs.items()]
        clock.end()
    durations = {item.audio_hash: item.duration for item in manifest}
    estimates = estimate_all(config, manifest, folds, trainings, in_run, parallel(accelerator.device))
    found = {
        "machine": machine(accelerator.device),
        "versions": versions(),
        "upstream": {"name": upstream.name, "weights": sum(one.numel() for one in upstream.parameters())},
        "corpus": {
            "name": corpus.name,
            "clips": len(durations),
            "audio_s": round(sum(durations.values()), 1),
            "folds": len(folds),
        },
        "extraction": extraction,
        "trainings": estimates,
        "notes": notes,
    }
    for row in estimates:
        kind = row["stored"]
        row["store_bytes"] = stored_bytes(upstream, durations.values(), kind, config.store_dtype) if kind else 0
    return found | {"recommended": recommend(config, found, free_bytes(store), TRAININGS)}


def _busy_note() -> list[str]:
    """A sentence where the machine is busy."""
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    busy = f"the machine was busy before (load {load:.1f} a core): it is faster than these figures when idle"
    return [busy] if load > BUSY else []


def _training_configs(
    config: RunConfig, names: Sequence[str], upstream: Upstream
) -> tuple[dict[str, RunConfig], list[str]]:
    """The settings of those of `TRAININGS` that a run takes, and a sentence on each of the others."""
    configs, left_out = {}, []
    for name in names:
        try:
            configs[name] = training_config(config, name, upstream)
        except ValueError as error:
            left_out.append(f"{name} is left out: {error}")
    return configs, left_out


def check_timed(config: RunConfig) -> None:
    """Refuse settings that would change a run and not what is measured; a ValueError names the first."""
    if config.head not in _ALLOWED_HEADS:
        how = "is fitted by a solver, without updates" if head_class(config.head).is_fitted else "is not among them"
        raise ValueError(
            f"bench times the heads {' and '.join(_ALLOWED_HEADS)}; head={config.head} {how}. Leave it, or the "
            f"system that sets it, out; `undertone crossval` with it on a part of the corpus shows what it takes."
        )
    if config.has_streams:
        raise ValueError(f"bench times one upstream at a time, got {config.upstream}. Give --upstream ID, once.")
    if others := sorted(set(config.sweep) - set(_SWEPT)):
        raise ValueError(
            f"bench times a sweep of {', '.join(_SWEPT)}, whose values take as long as each other; got "
            f"sweep.{others[0]}. Leave it out, or bench each of its values as a setting."
        )
    for name in _NOT_TIMED:
        if getattr(config, name) != RunConfig.model_fields[name].get_default():
            raise ValueError(
                f"bench times plain trainings, named {', '.join(TRAININGS)}: it does not measure what {name} changes. "
                f"Leave {name} out, or the system that sets it."
            )


def training_config(config: RunConfig, name: str, upstream: Upstream) -> RunConfig:
    """The settings of one of `TRAININGS`.

    Raises:
        ValueError: they do not go with the other settings, or the upstream has no weights that could learn.
    """
    try:
        own = RunConfig(**{**config.model_dump(), **TRAININGS[name]})
    except ValidationError as error:
        raise ValueError(explain(error)) from error
    if own.mode != "frozen":
        adapted(upstream, own)
    return own


def stored_kind(config: RunConfig) -> Kind | None:
    """What a training reads from the store; None where the upstream learns and runs in every update."""
    return needed_states(config.head, config.layer_norm) if config.mode == "frozen" else None


def machine(device: torch.device) -> dict[str, Any]:
    """What is measured on."""
    on_gpu = device.type == "cuda"
    return {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "device": torch.cuda.get_device_name(device) if on_gpu else "cpu",
        "device_memory_gb": round(torch.cuda.get_device_properties(device).total_memory / 1e9, 1) if on_gpu else None,
    }


def processor_name() -> str:
    """As the system calls it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def parallel(device: torch.device) -> int:
    """How many stacks of linear heads train at once; 0: all folds are one stack."""
    if device.type == "cuda":
        return 0
    return torch.get_num_threads() if can_fork() else 1


def typical_batch(config: RunConfig, train: Sequence[Utterance], jitter: float) -> tuple[list[Utterance], float]:
    """A batch of the first epoch that is about as long as the mean one, and the mean one's s of padded audio."""
    ids, durations = [item.id for item in train], [item.duration for item in train]
    batches = epoch_batches(ids, durations, config.batch_size, config.seed, 0, jitter)
    padded = [len(batch) * max(durations[place] for place in batch) for batch in batches]
    mean = statistics.fmean(padded)
    nearest = min(range(len(batches)), key=lambda number: abs(padded[number] - mean))
    return [train[place] for place in batches[nearest]], mean


def padded_seconds(clips: Sequence[Utterance]) -> float:
    """Audio of a batch with its padding."""
    return len(clips) * max(item.duration for item in clips)


# ---- Measuring.


class _Enough(Exception):
    """Ends a training that was long enough to be timed."""


@dataclass(frozen=True)
class _Bench:
    """What all measurements have in common."""

    run: Run
    accelerator: Accelerator
    scratch: Path
    seconds: float
    clock: Clock

    def training(self, name: str, config: RunConfig, speed: float) -> dict[str, Any]:
        """What an update of one of `TRAININGS` takes; `speed` is that of the extraction, audio s a second."""
        planned, kind = FRACTIONS[name] * self.seconds, stored_kind(config)
        self.clock.stage(f"updates, {name}", planned)
        run, stacked = replace(self.run, config=config), kind == "mean" and stackable(config)
        found = self._linear(run, planned) if stacked else self._gradients(run, kind, planned, speed)
        return {"training": name, "batch_size": config.batch_size, "stored": kind, "stacked": stacked, **found}

    def _linear(self, run: Run, planned: float) -> dict[str, Any]:
        """An update of one stack of linear heads on means, and of one head alone, as the model of all speakers is.

        On a CPU a stack holds a fold's values of a sweep, on a GPU all folds.
        """
        plan = [trial for trial in trials(run.config) if trial.config.seed == trials(run.config)[0].config.seed]
        configs = tuple(trial.config for trial in plan)
        folds = run.folds if self.accelerator.device.type == "cuda" else run.folds[:1]
        at_once = len(folds) * len(configs)
        alone = self._stack(run, folds[:1], configs[:1], planned if at_once == 1 else planned / 2)
        return {
            "measured_clips": run.config.batch_size,
            "update_s": alone if at_once == 1 else self._stack(run, folds, configs, planned / 2),
            "alone_update_s": alone,
            "trainings_at_once": at_once,
            "checkpoint_s": 0.0,
            "predict_s_per_audio_s": 0.0,
            "largest_batch": None,
        }

    def _stack(self, run: Run, folds: Sequence[Fold], configs: tuple[RunConfig, ...], planned: float) -> float:
        """Seconds of an update of one stack, evaluations on dev included."""
        upstream, device = run.upstream, self.accelerator.device
        used: dict[str, None] = {}
        groups = []
        for fold in folds:
            part = max(1, -(-len(fold.train) // MOST_CLIPS))
            train, dev = run.manifest.select(fold.train)[::part], run.manifest.select(fold.dev)[::part]
            used |= {item.id: None for item in (*train, *dev)}
            groups.append(TrainingGroup(fold.name, train, dev, configs, 10**9, self.scratch / "linear"))
        generator = torch.Generator().manual_seed(0)
        means = torch.randn(upstream.num_layers, len(used), upstream.hidden_size, generator=generator)  # (L, N, D)
        rows = {name: row for row, name in enumerate(used)}
        modules = [[run.new_downstream(group.name, one).to(device) for one in group.configs] for group in groups]
        trainer = StackedTrainer(groups, run.tasks, means.to(device), rows, modules)
        times = [time.perf_counter()]

        def follow(_: int) -> None:
            times.append(time.perf_counter())
            self.clock.tick()
            if len(times) > 10 and times[-1] - times[0] > planned:
                raise _Enough

        with one_thread(), _until_enough():
            trainer.fit(follow)
        return (times[-1] - times[1]) / max(1, len(times) - 2)

    def _gradients(self, run: Run, kind: Kind | None, planned: float, speed: float) -> dict[str, Any]:
        """An update of the trainer, on stored states of a kind or, without, through the live upstream."""
        config, train = run.config, run.manifest.select(run.folds[0].train)
        longest = max(run.manifest, key=lambda item: item.duration)
        batch, mean = typical_batch(config, train, StoreSource.jitter if kind else WaveSource.jitter)
        clips, updates = batch, 10
        if kind is None:
            # forward and backward take about three times a forward; first one update, then two or more, timed
            affordable = planned * speed / 3 / max(item.duration for item in batch)  # clips
            clips = spread(batch, max(1, min(len(batch), int(affordable / 3.5))))
            updates = max(1, min(updates, int(affordable / len(clips)) - 1))
        source: Source = self._made_states(run, kind, [*clips, longest]) if kind else run.source
        module = run.new_module("bench", config)
        free = psutil.virtual_memory().available
        at_once = 1
        if kind and can_fork() and self.accelerator.device.type == "cpu" and config.log_with == "none":  # as a run
            values = source([longest]).states.numel()  # type: ignore[union-attr]
            at_once = max(1, min(torch.get_num_threads(), len(run.folds), processes_in_memory(config, values)))
        with _kept_bytes(module) as kept:  # which also warms up
            self._updates(run, source, module, clips, 1)
        with one_thread() if at_once > 1 else nullcontext():
            timed = self._updates(run, source, module, clips, updates)
        trainable = sum(weight.numel() for weight in module.parameters() if weight.requires_grad)
        if self.accelerator.device.type == "cuda":
            largest = self._largest_by_trying(run, source, longest)
        else:
            one = sum(kept.values()) * longest.duration / padded_seconds(clips)
            largest = int((MEMORY_FRACTION * free - 12 * trainable) / max(one, 1.0))  # float32 gradient, two of Adam
        of_clips = max(0.0, timed["update_s"] - timed["step_s"]) * mean / padded_seconds(clips)
        return {
            "measured_clips": len(clips),
            "update_s": of_clips + timed["step_s"],
            "trainings_at_once": 1,
            "folds_at_once": at_once,
            "checkpoint_s": timed["checkpoint_s"],
            "predict_s_per_audio_s": timed["predict_s"] / sum(item.duration for item in clips),
            "largest_batch": max(0, min(LARGEST, largest)),
        }

    def _made_states(self, run: Run, kind: Kind, clips: Sequence[Utterance]) -> StoreSource:
        """A store with random states of these clips' lengths: the values do not change what a training takes."""
        upstream, config = run.upstream, run.config
        lengths = torch.tensor([round(item.duration * upstream.sample_rate) for item in clips])
        frames = upstream.frame_lengths(lengths).tolist()
        generator = torch.Generator().manual_seed(0)
        made = {}
        for item, count in zip(clips, frames, strict=True):
            frame = torch.randn(upstream.num_layers, 1, upstream.hidden_size, generator=generator)
            made[str(item.audio_hash)] = frame if kind == "mean" else frame.expand(-1, count, -1)  # (L, T, D)
        store = Store(self.scratch / f"made-{kind}", upstream, kind, config.store_dtype)
        store.add(made.items())
        return StoreSource(store, device=self.accelerator.device)

    def _updates(self, run: Run, source: Source, module: Any, clips: list[Utterance], updates: int) -> dict[str, float]:
        """Seconds of an update, of the optimiser's step in it, of a checkpoint, and of a prediction of the clips."""
        times = [time.perf_counter()]

        def follow(*_: object) -> None:
            times.append(time.perf_counter())
            self.clock.tick()

        folder = Path(tempfile.mkdtemp(dir=self.scratch))  # an empty one, so that nothing is resumed
        config = run.config.model_copy(update={"eval_every": updates})
        trainer = Trainer(config, run.tasks, source, module, folder, self.accelerator, follow)
        trainer.fit(clips, [], updates)
        times.append(time.perf_counter())
        *steps, checkpoint = (after - before for before, after in pairwise(times))
        steps = steps[1:] if len(steps) > 2 else steps  # the first one makes the optimiser's state
        began = time.perf_counter()
        trainer.accelerator.clip_grad_norm_(trainer.model.parameters(), config.clip_norm)
        trainer.optimizer.step()
        stepped = time.perf_counter()
        trainer.predict(clips)
        return {
            "update_s": statistics.median(steps),
            "step_s": stepped - began,
            "checkpoint_s": checkpoint,
            "predict_s": time.perf_counter() - stepped,
        }

    def _largest_by_trying(self, run: Run, source: Source, longest: Utterance) -> int:
        """Of copies of the longest clip so many as the trainer's own halving finds to fit."""

        def follow(*_: object) -> None:
            raise _Enough

        module, clips = run.new_module("bench"), [longest] * LARGEST
        config = run.config.model_copy(update={"batch_size": LARGEST, "accumulation": 1})
        folder = Path(tempfile.mkdtemp(dir=self.scratch))
        trainer = Trainer(config, run.tasks, source, module, folder, self.accelerator, follow)
        with _until_enough():
            trainer.fit(clips, [], 10**9)
        torch.cuda.empty_cache()
        return LARGEST // trainer.micro_batches


@contextmanager
def _until_enough() -> Iterator[None]:
    """Within it, `_Enough` ends the block."""
    try:
        yield
    except _Enough:
        pass


@contextmanager
def _kept_bytes(module: nn.Module) -> Iterator[dict[int, int]]:
    """Within it, {address: bytes} of all that autograd keeps for a backward pass on a CPU, but for the weights."""
    weights = {weight.untyped_storage().data_ptr() for weight in module.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # an output itself would keep its own graph alive

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept
