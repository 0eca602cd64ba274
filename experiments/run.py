"""Opening a run: manifest, folds, tasks and hidden states, checked before any training starts."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from undertone.common.console import Display
from undertone.corpora.corpus import Corpus
from undertone.corpora.folds import Fold
from undertone.corpora.manifest import Manifest, Utterance
from undertone.downstream.config import UndertoneConfig
from undertone.downstream.dropout import repeated
from undertone.downstream.ladder import LadderDownstream
from undertone.downstream.model import UndertoneModel
from undertone.downstream.network import Downstream, LiveModel, TopLayersModel
from undertone.downstream.task import Task
from undertone.experiments.run_folder import fold_folder
from undertone.training.augmenter import Heard
from undertone.training.config import RunConfig
from undertone.training.seeding import seed_everything
from undertone.training.sources import MixtureSource, Source, StoreSource
from undertone.upstream import Upstream
from undertone.upstream.hf.adapt import add_lora, finetune, merge_lora
from undertone.upstream.hf.replay import can_replay
from undertone.upstream.hf.upstream import HFUpstream


@dataclass
class Run:
    """An opened run: all that its folds share.

    Attributes:
        config: the resolved settings.
        out: RUN, the folder of everything it writes.
        corpus: what it trains on.
        manifest: the utterances that could be read.
        folds: train, dev and test of each.
        tasks: what is predicted.
        upstream: as loaded, in eval mode; a training that changes it takes a copy.
        source: what the trained module is fed.
        display: where progress is shown.
        warnings: what the results must say about the data and the settings.
        stored: of the hidden states: `frames`, `mean`, `mixture` or `none`.
        unlabelled: what a ladder reconstructs besides.
        copies: hidden states of changed copies of utterances, once they were heard.
    """

    config: RunConfig
    out: Path
    corpus: Corpus
    manifest: Manifest
    folds: list[Fold]
    tasks: tuple[Task, ...]
    upstream: Upstream
    source: Source
    display: Display
    warnings: list[str] = field(default_factory=list)
    stored: str = "none"
    unlabelled: tuple[Utterance, ...] = ()
    copies: Heard = field(default_factory=dict)

    def folder(self, fold: Fold) -> Path:
        """RUN/folds/NAME; see `fold_folder`."""
        return fold_folder(self.out, fold.name)

    def new_downstream(self, name: str) -> Downstream:
        """An untrained downstream whose weights depend on the seed and `name` alone."""
        seed_everything(self.config.seed, "init", name)
        shape = self.upstream.num_layers, self.upstream.hidden_size, self.tasks
        settings = self.config.head, self.config.head_options, self.config.layer_norm
        if self.config.ladder:
            options = self.config.ladder_options
            downstream: Downstream = LadderDownstream(*shape, *settings, options)
        else:
            downstream = Downstream(*shape, *settings)
        if isinstance(self.source, MixtureSource):
            downstream.layer_sum.fix(self.source.weights[name])
        elif isinstance(self.config.layers, int):
            downstream.layer_sum.select(self.config.layers)
        return downstream

    def of(self, name: str) -> Run:
        """The run as one training sees it: the fold's, or `EVERYONE`'s; of stored frames the layer that it takes."""
        source, layer = self.source, self.config.layers
        if isinstance(source, MixtureSource):
            return dataclasses.replace(self, source=source.of(name))
        if self.stored == "frames" and isinstance(source, StoreSource) and isinstance(layer, int):
            if self.config.mode == "frozen":
                one = StoreSource(source.store, source.room, source.device, layer)
                return dataclasses.replace(self, source=one)
        return self

    def new_module(self, name: str) -> Downstream | LiveModel:
        """What a fold trains: the downstream alone, or with a copy of the upstream in which something learns."""
        downstream = self.new_downstream(name)
        if self.config.mode == "frozen":
            return downstream
        seed_everything(self.config.seed, "adapters", name)
        upstream = adapted(self.upstream, self.config)
        if isinstance(self.source, StoreSource):
            return TopLayersModel(upstream, downstream, self.config.top_layers)  # type: ignore[arg-type]
        return LiveModel(upstream, downstream)

    def model(self, module: Downstream | LiveModel, trained_on: list[Utterance]) -> UndertoneModel:
        """Upstream and trained downstream as one model that says what it was trained on; adapters are merged."""
        upstream = self.upstream
        downstream = module.downstream if isinstance(module, LiveModel) else module
        if isinstance(module, LiveModel):
            upstream = copy.deepcopy(module.upstream)
            if self.config.mode == "lora":
                merge_lora(upstream)
        config = UndertoneConfig(
            upstream=upstream.spec(),
            upstream_hash=upstream.weights_hash(),
            head=self.config.head,
            head_options=self.config.head_options,
            tasks=[task.to_dict() for task in self.tasks],
            layer_norm=self.config.layer_norm,
            trained_on={
                "corpus": self.corpus.name,
                "manifest_hash": self.manifest.hash,
                "speakers": sorted({str(item.speaker) for item in trained_on if item.speaker is not None}),
                "unknown_speakers": sum(item.speaker is None for item in trained_on),
            },
        )
        model = UndertoneModel(config, upstream, allow=(self.config.head, self.config.upstream))
        model.downstream.layer_sum, model.downstream.head = downstream.layer_sum, downstream.head  # no decoder
        return model

    def save_fold(self, module: Downstream | LiveModel, trained_on: list[Utterance], folder: Path) -> None:
        """Write what a fold trained: layer sum and head, and the adapters or the upstream where they learned."""
        if not isinstance(module, LiveModel) or self.config.mode == "finetune":
            self.model(module, trained_on).save_pretrained(folder, head_only=not isinstance(module, LiveModel))
            return
        frozen = dataclasses.replace(self, config=self.config.model_copy(update={"mode": "frozen"}))
        frozen.model(module.downstream, trained_on).save_pretrained(folder, head_only=True, adapter=module.upstream)


def weights_of(upstream: Upstream) -> str:
    """`upstream_weights` of results: `pretrained`, `random`, or `none` of an acoustic front-end, which learned none."""
    if upstream.spec().get("kind") != "hf":
        return "none"
    return "random" if upstream.random_weights else "pretrained"


def adapted(upstream: Upstream, config: RunConfig) -> Upstream:
    """A copy of the upstream, ready to learn by the config's mode.

    Raises:
        ValueError: the upstream has no weights, or not so many blocks.
    """
    upstream = copy.deepcopy(upstream)
    if config.mode == "lora":
        add_lora(upstream, rank=config.lora_rank, alpha=config.lora_alpha, dropout=config.lora_dropout)
    else:
        finetune(upstream, train_front_end=config.train_front_end, top_layers=config.top_layers)
    if config.gradient_checkpointing:
        upstream.model.gradient_checkpointing_enable({"use_reentrant": False, "context_fn": repeated})  # type: ignore[union-attr, operator]
    return upstream


def trains_top_from_store(upstream: Upstream, config: RunConfig) -> bool:
    """Whether only the top layers learn and the frozen ones below them can be read from the store."""
    top = config.top_layers
    return top is not None and isinstance(upstream, HFUpstream) and can_replay(upstream, top)
