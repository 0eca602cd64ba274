"""Opening a run: manifest, folds, tasks and hidden states, checked before any training starts."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from undertone.corpora import load_corpus
from undertone.corpora.corpus import Corpus
from undertone.corpora.folds import Fold, check_folds, mark_leaks
from undertone.corpora.manifest import FILE_NAME, Manifest, Utterance
from undertone.corpora.prepare import Prepared, check_unchanged, prepare
from undertone.downstream.config import UndertoneConfig
from undertone.downstream.downstream import Downstream
from undertone.downstream.dropout import repeated
from undertone.downstream.head import check_head_options, check_head_tasks, head_class
from undertone.downstream.ladder_downstream import LadderDownstream
from undertone.downstream.ladder_options import LadderOptions
from undertone.downstream.live import LiveModel, TopLayersModel
from undertone.downstream.model import UndertoneModel
from undertone.downstream.task import Task
from undertone.files import read_json, write_json
from undertone.training.accelerator import make_accelerator, with_precision_of_device
from undertone.training.augmentation import check_augmentation
from undertone.training.config import RunConfig
from undertone.training.config_file import check_same_run, save_config
from undertone.training.copies import Heard
from undertone.training.cost import trained_parameters
from undertone.training.fallback import MixtureSource
from undertone.training.feeding import Source, StoreSource, WaveSource
from undertone.training.frozen import frozen_source, store_folder
from undertone.training.order import seed_everything
from undertone.training.progress import Display
from undertone.training.run_files import fold_folder, remove_leftovers
from undertone.training.started import check_start, record_start, save_start
from undertone.training.targets import choose_tasks, label_warnings, reading_notes
from undertone.training.unlabelled import joined, unlabelled_corpus, without_labels
from undertone.upstream import Upstream, load_upstream
from undertone.upstream.adapt import add_lora, finetune, merge_lora
from undertone.upstream.hf import HFUpstream
from undertone.upstream.replay import can_replay


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
            options = LadderOptions.read(self.config.ladder_options)
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


def open_run(config: RunConfig, out: Path, display: Display) -> Run:
    """Check the settings, prepare the manifest, make and check the folds, bring the hidden states into the store.

    A run that was started before is resumed: its manifest is read back; other settings, labels, code, weights or
    versions are refused.

    Raises:
        ValueError: a sentence about the setting, the corpus, the folds or the upstream.
    """
    out = out.expanduser()
    config, fallen_back = with_precision_of_device(config)
    if fallen_back:
        display.say(fallen_back)
    head_class(config.head)
    check_head_options(config.head, config.head_options)
    corpus = load_corpus(config.corpus, config.corpus_options)
    corpus.check_protocol(config.protocol)
    check_same_run(config, out / "config.json")
    upstream = load_upstream(config.upstream, revision=config.revision, options=config.upstream_options or None)
    resolved = with_layers(config, upstream)
    accelerator = make_accelerator(config)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"Cannot make the folder {out}: {error.strerror}. Choose another --out.") from error
    with FileLock(out / "start.lock"):
        begun = (out / "config.json").is_file()  # the last that a start writes
        remove_leftovers(out)
        manifest, warnings = _manifest(config, corpus, out, display, begun)
        folds = corpus.folds(manifest, config.protocol, config.num_folds, config.seed)
        leaks = check_folds(folds, manifest, config.allow_leak)
        for line in leaks:
            display.say(f"note: {line}")
        warnings += leaks
        folds = mark_leaks(folds, manifest)
        tasks = choose_tasks(manifest, config.tasks, config.task_weights, config.soft_labels, config.adversarial)
        readings = reading_notes(tasks, manifest)
        for line in [*readings, *label_warnings(tasks, folds, manifest)]:
            display.say(f"note: {line}")
        warnings += readings
        unlabelled = _unlabelled(config, manifest, out, display, begun)
        check_head_tasks(config.head, tasks)
        check_augmentation(config, tasks)
        corpora = {"corpus": (corpus, Path(config.root).expanduser() if config.root else None)}
        if config.unlabelled is not None:
            corpora["unlabelled"] = (unlabelled_corpus(config.unlabelled), None)
        found = record_start(config, upstream, corpora)
        if begun:
            warnings += check_start(out, found, config, corpora)
        else:
            save_start(out, found)
        save_config(config, out / "config.json")
    source: Source = WaveSource(upstream.sample_rate)
    run = Run(resolved, out, corpus, manifest, folds, tasks, upstream, source, display, warnings, unlabelled=unlabelled)
    display.say(_what_learns(run))
    if collapse := _may_collapse(config, upstream):
        display.say(collapse)
        warnings.append(collapse)
    if config.mode == "frozen" or (trains_top_from_store(upstream, config) and not config.augment.on_waves):
        heard = joined(manifest, run.unlabelled) if run.unlabelled else manifest
        run.stored, run.source = frozen_source(dataclasses.replace(run, manifest=heard), accelerator)
    return run


def with_layers(config: RunConfig, upstream: Upstream) -> RunConfig:
    """The config, `layers=best` in it as a sweep over all layers of the upstream.

    Raises:
        ValueError: no such layer, or `best` where there is nothing to choose or each layer would train the upstream.
    """
    last = upstream.num_layers - 1
    for layer in (config.layers, *config.sweep.get("layers", ())):
        if isinstance(layer, int) and layer > last:
            raise ValueError(
                f"layers={layer}: {upstream.name!r} has the layers 0 (input of the first block) to {last}. Give one of "
                f"these, layers=sum or layers=best."
            )
    if config.layers != "best":
        return config
    if config.mode != "frozen":
        raise ValueError(
            f"layers=best trains a head on each layer of a frozen upstream; with mode={config.mode} each would be a "
            f"training of the whole upstream. Find the layer with mode=frozen layers=best, then give its number: "
            f"mode={config.mode} layers=N."
        )
    if last == 0:
        raise ValueError(f"layers=best: {upstream.name!r} has one layer, so there is nothing to choose. Leave it out.")
    return config.model_copy(update={"layers": "sum", "sweep": {"layers": tuple(range(last + 1)), **config.sweep}})


def _what_learns(run: Run) -> str:
    """`lora: 294,912 of 94,371,712 upstream weights learn, and 199,190 of layer sum and head`."""
    own = f"{trained_parameters(run.new_downstream('count')):,} of layer sum and head"
    if run.config.mode == "frozen":
        return f"frozen: no upstream weight learns, {own} do"
    weights = list(adapted(run.upstream, run.config).parameters())
    learning = sum(weight.numel() for weight in weights if weight.requires_grad)
    return f"{run.config.mode}: {learning:,} of {sum(w.numel() for w in weights):,} upstream weights learn, and {own}"


def _may_collapse(config: RunConfig, upstream: Upstream) -> str:
    """A sentence where a ladder's target learns to be easy to reconstruct; "" elsewhere."""
    learns = config.mode != "frozen" or (upstream.num_layers > 1 and not isinstance(config.layers, int))
    if not (config.ladder and learns) or LadderOptions.read(config.ladder_options).detach:
        return ""
    what = "layer sum" if config.mode == "frozen" else "upstream"
    return (
        f"ladder.detach=false: the {what} learns what is reconstructed, which may collapse; ladder.detach=true does not"
    )


def _unlabelled(
    config: RunConfig, manifest: Manifest, out: Path, display: Display, begun: bool
) -> tuple[Utterance, ...]:
    """The unlabelled speech that was asked for, prepared once like a corpus."""
    if config.unlabelled is None:
        return ()
    corpus, plain = unlabelled_corpus(config.unlabelled), config.model_copy(update={"root": None})
    if corpus.default_root is None:  # a corpus of ours, whose folder is not known here
        raise ValueError(f"unlabelled={config.unlabelled} is no folder. Give that of its audio: unlabelled=FOLDER.")
    found, _ = _manifest(plain, corpus, out / "unlabelled", display, begun)
    return without_labels(manifest, found)


def prepare_corpus(config: RunConfig, corpus: Corpus | None = None, display: Display | None = None) -> Prepared:
    """What a run finds in its corpus; files that an earlier run found good and that have not changed are not read.

    Raises:
        ValueError: as `load_corpus` and `prepare`.
    """
    corpus = corpus or load_corpus(config.corpus, config.corpus_options)
    with (display or Display()).bar(f"checking {corpus.name}") as advance:
        return prepare(
            corpus,
            Path(config.root).expanduser() if config.root else None,
            strict=config.strict,
            progress=lambda done, total: advance(done, total, ""),
            trusted=store_folder(config.store) / "audio",
        )


def _manifest(
    config: RunConfig, corpus: Corpus, out: Path, display: Display, begun: bool
) -> tuple[Manifest, list[str]]:
    """The run's manifest and what was noticed when it was made; of a run that has begun, those of its start."""
    folder, notes = out / "manifest", out / "manifest_notes.json"
    if begun and (folder / FILE_NAME).is_file() and notes.is_file():
        manifest = Manifest.load(folder)
        check_unchanged(manifest)
        return manifest, list(read_json(notes))
    prepared = prepare_corpus(config, corpus, display)
    warnings = prepared.warnings + [f"set aside {path}: {reason}" for path, reason in prepared.broken]
    for warning in warnings:
        display.say(f"note: {warning}")
    prepared.manifest.save(folder)
    write_json(notes, warnings)
    return prepared.manifest, warnings
