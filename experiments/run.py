"""A run that was opened, and each of its trainings."""

from __future__ import annotations

import copy
import statistics
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from accelerate import Accelerator
from torch import Tensor

from undertone.audio.speech import is_speech_corpus
from undertone.common.console import Display
from undertone.corpora.corpus import Corpus
from undertone.corpora.folds import Fold
from undertone.corpora.manifest import Manifest, Utterance
from undertone.downstream.config import UndertoneConfig
from undertone.downstream.ladder import LadderDownstream
from undertone.downstream.mean_teacher import MeanTeacherDownstream
from undertone.downstream.model import UndertoneModel
from undertone.downstream.network import Downstream, LiveModel, TopLayersModel, needed_states
from undertone.downstream.task import Task
from undertone.experiments.hidden_states import any_video
from undertone.experiments.run_folder import RunFolder
from undertone.training.accelerator import accelerator_of
from undertone.training.augmenter import Augmenter
from undertone.training.config import RunConfig, Trial, with_values
from undertone.training.seeding import seed_everything
from undertone.training.sources import RecomputeSource, Source, StoreSource, StreamsSource
from undertone.training.unlabelled import UnlabelledStream
from undertone.upstream import Upstream
from undertone.upstream.base import read_clip
from undertone.upstream.dropout import repeated
from undertone.upstream.hf.adapt import add_lora, finetune, merge_lora
from undertone.upstream.streams import Streams, stream_shapes

EVERYONE = "all"  # the model of all speakers


@dataclass(frozen=True)
class Run:
    """An opened run: what all of its trainings share.

    Attributes:
        config: the resolved settings.
        folder: RUN, where all files are written.
        corpus: what it trains on.
        manifest: the utterances that could be read.
        folds: train, dev and test of each.
        tasks: what is predicted.
        upstream: as loaded, in eval mode; a training that changes it takes a copy.
        source: of training batches.
        display: where progress is shown.
        warnings: sentences on the data and the settings for the results.
        stored: which hidden states are stored: `frames`, `mean` or `none`; of several streams as `run_source` says.
        unlabelled: speech that a ladder reconstructs in addition.
        copies: augmented copies that are stored, by seed, number and utterance id.
    """

    config: RunConfig
    folder: RunFolder
    corpus: Corpus
    manifest: Manifest
    folds: list[Fold]
    tasks: tuple[Task, ...]
    upstream: Upstream
    source: Source
    display: Display
    warnings: tuple[str, ...] = ()
    stored: str = "none"
    unlabelled: tuple[Utterance, ...] = ()
    copies: dict[tuple[int, int, str], Utterance] = field(default_factory=dict)

    @cached_property
    def audio_only(self) -> bool:
        """Whether the upstream looks at pictures, and no clip has any: the models learn from sound alone."""
        return self.upstream.sees and not any_video(self.manifest)

    def training(self, fold: Fold, trial: Trial, title: str = "") -> Training:
        """One training of a fold; of a single stored layer its source reads that layer alone."""
        config, source = trial.config, self.source
        if self.stored == "frames" and config.mode == "frozen" and isinstance(config.layers, int):
            source = cast(StoreSource, source).of_layer(config.layers)
        folder = self.folder.fold(fold.name) / trial.name
        return Training(self, fold, config, source, folder, f"{title} {trial.name}".strip())

    def training_of_everyone(self, config: RunConfig) -> Training:
        """The training of RUN/model on all speakers."""
        fold = Fold(EVERYONE, self.manifest.ids, (), ())
        training = self.training(fold, Trial("", {}, config), "model of all speakers")
        return replace(training, folder=self.folder.path / "refit")

    def alone(self, stream: str) -> Run:
        """The run on one of its several upstreams."""
        upstream = Streams({stream: self.upstream.streams[stream]}).eval()
        source = StreamsSource({stream: cast(StreamsSource, self.source).parts[stream]})
        return replace(self, config=self.config.alone(stream), upstream=upstream, source=source)

    def new_downstream(self, name: str, config: RunConfig | None = None) -> Downstream:
        """An untrained downstream whose weights depend only on the seed and `name`."""
        return new_downstream(config or self.config, self.upstream, self.tasks, name)

    def new_module(self, name: str, config: RunConfig | None = None) -> Downstream | LiveModel:
        """What is trained: the downstream alone, or with a copy of the upstream in which something is trainable."""
        config = config or self.config
        downstream = self.new_downstream(name, config)
        if config.trained == "frozen":
            return downstream
        seed_everything(config.seed, "adapters", name)
        upstream = adapted(self.upstream, config)
        if self.stored == "frames":  # those of the blocks that stay as they are
            return TopLayersModel(upstream, downstream, config.top_layers)  # type: ignore[arg-type]
        return LiveModel(upstream, downstream)


@dataclass(frozen=True)
class Training:
    """One training of a run: a fold, or all speakers, under one config.

    Attributes:
        run: what it shares with the others.
        fold: its utterances; its name decides the initial weights, with the seed.
        config: of this training, one trial of the run's.
        source: of its batches.
        folder: where its files are written.
        title: of its progress bar.
    """

    run: Run
    fold: Fold
    config: RunConfig
    source: Source
    folder: Path
    title: str

    @property
    def train(self) -> list[Utterance]:
        """The utterances to learn from."""
        return self.run.manifest.select(self.fold.train)

    @property
    def dev(self) -> list[Utterance]:
        """Those for every choice."""
        return self.run.manifest.select(self.fold.dev)

    @property
    def test(self) -> list[Utterance]:
        """Those for the score alone."""
        return self.run.manifest.select(self.fold.test)

    def with_values(self, values: dict[str, Any]) -> Training:
        """The same training with other settings and nothing left to sweep."""
        return replace(self, config=with_values(self.config, values))

    def alone(self, stream: str) -> Training:
        """The same training on one of its several upstreams."""
        run = self.run.alone(stream)
        title = f"{self.title}, {stream} alone".removeprefix(", ")
        return replace(self, run=run, config=self.config.alone(stream), source=run.source, title=title)

    def accelerator(self) -> Accelerator:
        """Devices and processes; a tracker writes to the training's folder."""
        return accelerator_of(self.config, self.folder)

    def new_downstream(self) -> Downstream:
        """See `Run.new_downstream`."""
        return self.run.new_downstream(self.fold.name, self.config)

    def new_module(self) -> Downstream | LiveModel:
        """See `Run.new_module`."""
        return self.run.new_module(self.fold.name, self.config)

    def augmenter(self, device: Any) -> Augmenter | None:
        """What makes the training batches; None where augmentation is off."""
        config, upstream = self.config, self.run.upstream
        if not config.augment.is_on:
            return None
        settings = config.augment, config.seed, upstream.sample_rate, self.source
        if config.trained != "frozen":
            return Augmenter(*settings, sees=upstream.sees)
        mean = needed_states(config.head, config.layer_norm) == "mean"
        frozen = RecomputeSource(upstream.to(device), mean, config.mixed_precision)
        stored = None if self.run.stored == "none" else self.run.copies
        return Augmenter(*settings, frozen.compute, upstream.sees, stored)

    def unlabelled_stream(self) -> UnlabelledStream | None:
        """The unlabelled speech that a ladder or a mean teacher is given at every update."""
        if not self.run.unlabelled or self.config.pseudo_labels is not None:
            return None
        return UnlabelledStream(self.run.unlabelled, self.config.batch_size, self.config.seed)

    def model(
        self,
        module: Downstream | LiveModel,
        trained_on: list[Utterance],
        calibration: dict[str, dict[str, Any]] | None = None,
        speech_only: bool = False,
    ) -> UndertoneModel:
        """Upstream and trained downstream as one model that says what it was trained on; adapters are merged."""
        run, upstream, names = self.run, self.run.upstream, self.run.manifest.speaker_names
        seconds = [item.duration for item in trained_on]
        if module.upstream is not None:
            upstream = copy.deepcopy(module.upstream)
            for name, own in self.config.of_streams().items():
                if own.mode == "lora":
                    merge_lora(upstream.streams[name])
        config = UndertoneConfig(
            upstream=upstream.spec(),
            upstream_hash=upstream.weights_hash(),
            head=self.config.head,
            head_options=self.config.head_options,
            tasks=[task.to_dict() for task in run.tasks],
            layer_norm=self.config.layer_norm,
            fusion=self.config.fusion or "",
            trained_on={
                "corpus": run.corpus.name,
                "manifest_hash": run.manifest.hash,
                "corpora": sorted({item.corpus for item in trained_on}),
                "speakers": sorted({str(names[item.id]) for item in trained_on if item.speaker is not None}),
                "unknown_speakers": sum(item.speaker is None for item in trained_on),
                "clip_seconds": {
                    "shortest": round(min(seconds), 2),
                    "median": round(statistics.median(seconds), 2),
                    "longest": round(max(seconds), 2),
                },
                **({"audio_only": True} if run.audio_only else {}),
            },
            mode=self.config.trained,
            calibration=calibration,
            speech_only=speech_only,
        )
        model = UndertoneModel(config, upstream, allow=self.config.code())
        for part in ("layer_sum", "fusion", "head"):  # without the decoder of a ladder
            setattr(model.downstream, part, getattr(module.downstream, part))
        return model

    def is_speech(self) -> bool:
        """Whether the speech detector recognises the training clips, by twenty of them; see `is_speech_corpus`."""
        clips = self.train[:: max(1, len(self.train) // 20)][:20]
        sound = next((one for one in self.run.upstream.streams.values() if not one.sees), None)
        if sound is None:  # what is said does not matter to a model of video alone
            return False
        read = (read_clip(sound, clip.path, clip.start, clip.end) for clip in clips)
        return is_speech_corpus([wave for wave in read if isinstance(wave, Tensor)], sound.sample_rate)

    def save(self, module: Downstream | LiveModel, trained_on: list[Utterance], folder: Path) -> None:
        """Write what was trained: layer sum and head, and the adapters or the upstream where these were."""
        if module.upstream is None or self.config.trained == "finetune":
            self.model(module, trained_on).save_pretrained(folder, head_only=module.upstream is None)
        else:
            model = self.model(module.downstream, trained_on)
            model.save_pretrained(folder, head_only=True, adapter=module.upstream)


def new_downstream(config: RunConfig, upstream: Upstream, tasks: tuple[Task, ...], name: str) -> Downstream:
    """See `Run.new_downstream`."""
    seed_everything(config.seed, "init", name)
    settings = stream_shapes(upstream), tasks, config.head, config.head_options, config.layer_norm, config.fusion
    if config.ladder:
        downstream: Downstream = LadderDownstream(*settings, ladder=config.ladder_options)
    elif config.mean_teacher:
        downstream = MeanTeacherDownstream(*settings, weight=config.mean_teacher)
    else:
        downstream = Downstream(*settings)
    for stream, own in config.of_streams().items():
        if isinstance(own.layers, int):
            downstream.layer_sums[stream].select(own.layers)
    return downstream


def weights_of(upstream: Upstream) -> str:
    """`upstream_weights` of results: `pretrained`, `random`, or `none` of an acoustic front-end, which has none."""
    if not any(part.spec().get("kind") == "hf" for part in upstream.streams.values()):
        return "none"
    return "random" if upstream.random_weights else "pretrained"


def adapted(upstream: Upstream, config: RunConfig) -> Upstream:
    """A copy of the upstream, made trainable as the config's mode says; it must have weights and enough blocks.

    Of several streams each as its own mode says.
    """
    if isinstance(upstream, Streams):
        parts = {}
        for name, own in config.of_streams().items():
            try:
                parts[name] = adapted(upstream.streams[name], own)
            except ValueError as error:
                raise ValueError(
                    f"Stream {name!r}: {error} Its own settings are given as streams.{name}.mode=frozen."
                ) from error
        return Streams(parts).eval()
    upstream = copy.deepcopy(upstream)
    if config.mode == "frozen":
        return upstream.requires_grad_(False)
    if config.mode == "lora":
        add_lora(upstream, rank=config.lora_rank, alpha=config.lora_alpha, dropout=config.lora_dropout)
    else:
        finetune(upstream, train_front_end=config.train_front_end, top_layers=config.top_layers)
    if config.gradient_checkpointing:
        upstream.model.gradient_checkpointing_enable({"use_reentrant": False, "context_fn": repeated})  # type: ignore[union-attr, operator]
    return upstream
