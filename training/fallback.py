"""Where frames do not fit into the store: one mixture of the layers a fold, or the upstream at every batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING, ClassVar

import torch
from accelerate import Accelerator

from undertone.downstream.head import head_class
from undertone.files import safe_name
from undertone.training.feeding import Source, StoreSource, WaveSource
from undertone.training.run_files import MIXTURES
from undertone.training.trainer import Trainer, total_steps
from undertone.upstream.base import Upstream
from undertone.upstream.precision import autocast, check_precision
from undertone.upstream.types import HiddenStates, WaveBatch

if TYPE_CHECKING:
    from undertone.corpora.manifest import Utterance
    from undertone.training.run import Run

PROBE = "linear"  # the head that the layer weights are learned with; it needs nothing but means
EVERYONE = "all"  # the model of all speakers


class MixtureSource:
    """Hidden states (B, 1, T, D) float32: the layers' mixture of one fold, of all that the store holds.

    Args:
        source: of the stored mixtures, (B, F, T, D).
        names: of the F trainings.
        weights: name -> (L,) layer weights.
        name: of the training that is fed.
    """

    jitter: ClassVar[float] = StoreSource.jitter

    def __init__(
        self, source: StoreSource, names: Sequence[str], weights: Mapping[str, Sequence[float]], name: str = EVERYONE
    ) -> None:
        self.source, self.names, self.weights, self.name = source, names, weights, name

    def of(self, name: str) -> MixtureSource:
        """The same store for another training."""
        return MixtureSource(self.source, self.names, self.weights, name)

    def __call__(self, utterances: Sequence[Utterance]) -> HiddenStates:
        """Read and pad."""
        every = self.source(utterances)
        row = self.names.index(self.name)
        return HiddenStates(every.states[:, row : row + 1], every.lengths)  # (B, 1, T, D)


class RecomputeSource:
    """Hidden states (B, L, T, D) float32 that a frozen upstream computes for every batch; nothing is stored.

    Args:
        upstream: on the device of the training; put in eval mode.
        mean: give means over the frames, (B, L, 1, D).
        precision: of its arithmetic: `no`, `bf16` or `fp16`.

    Raises:
        ValueError: the device computes wrongly in this precision.
    """

    jitter: ClassVar[float] = WaveSource.jitter  # every padding sample goes through the upstream

    def __init__(self, upstream: Upstream, mean: bool = False, precision: str = "no") -> None:
        self.upstream, self.mean, self.precision = upstream.eval(), mean, precision
        self.waves = WaveSource(upstream.sample_rate)
        self.device = next(upstream.parameters(), torch.empty(0)).device
        check_precision(upstream, self.device, precision)

    def __call__(self, utterances: Sequence[Utterance]) -> HiddenStates:
        """Read, resample, pad, and run the upstream."""
        return self.hear(self.waves(utterances))

    def hear(self, batch: WaveBatch) -> HiddenStates:
        """Run the upstream."""
        batch = batch.to(self.device)
        with torch.no_grad():
            with autocast(self.device, self.precision):
                hidden: HiddenStates = self.upstream(batch)
            hidden = hidden.to(self.device, torch.float32)
            return hidden.means() if self.mean else hidden


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
