"""Opening a run: manifest, folds, tasks and hidden states, checked before any training starts."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock

from undertone.common.console import Display
from undertone.common.discovery import check_options
from undertone.common.files import read_json, write_json
from undertone.corpora import load_corpus
from undertone.corpora.corpus import Corpus
from undertone.corpora.folds import check_folds, mark_leaks
from undertone.corpora.manifest import FILE_NAME, Manifest, Utterance
from undertone.corpora.prepare import check_unchanged
from undertone.downstream.fusion import check_fusion
from undertone.downstream.head import check_head_tasks, head_class
from undertone.downstream.task import Task
from undertone.experiments.cost import trained_parameters
from undertone.experiments.fitted_heads import check_fitted, chooses_inside
from undertone.experiments.hidden_states import lacking_video, open_upstream, prepare_from_config, run_source
from undertone.experiments.run import Run, adapted, new_downstream
from undertone.experiments.run_folder import RunFolder
from undertone.experiments.start_record import FILE_NAME as STARTED
from undertone.experiments.start_record import check_start, record_start
from undertone.experiments.streams_alone import check_average
from undertone.pretraining.record import check_pretraining
from undertone.training.accelerator import accelerator_of, check_tracker, with_precision
from undertone.training.augmenter import check_augmentation
from undertone.training.config import RunConfig, trials
from undertone.training.settings import check_same_run, save_config
from undertone.training.targets import choose_tasks, label_warnings, reading_notes
from undertone.training.unlabelled import joined, unlabelled_corpus, without_labels
from undertone.upstream import Upstream
from undertone.upstream.streams import Streams


def open_run(config: RunConfig, out: str | Path, display: Display) -> Run:
    """Check the settings, prepare the manifest, make and check the folds, fill the store with the hidden states.

    A run that was started before is resumed: its manifest is read back; other settings, labels, code, weights or
    versions are refused. A ValueError is a sentence about the setting, the corpus, the folds or the upstream.
    """
    out = Path(out).expanduser()
    check_tracker(config.log_with)
    corpus, upstream = _check_settings(config)
    config, changed = with_precision(config, upstream)
    if changed:
        display.say(changed)
    check_same_run(config, out / "config.json")
    resolved = with_layers(config, upstream)
    accelerator = accelerator_of(config)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"Cannot make the folder {out}: {error.strerror}. Choose another --out.") from error
    with FileLock(out / "start.lock"):
        started = (out / "config.json").is_file()  # the last file that a start writes
        RunFolder(out).remove_leftovers()
        manifest, warnings = _manifest(config, corpus, out, display, started)
        folds = corpus.folds(manifest, config.protocol, config.num_folds, config.seed)
        leaks = check_folds(folds, manifest, config.allow_leak)
        folds = mark_leaks(folds, manifest)
        for own in config.of_streams().values():
            leaks += check_pretraining(own.upstream, own.revision, manifest, folds, config.allow_leak)
        tasks = choose_tasks(manifest, config.tasks, config.task_weights, config.soft_labels, config.adversarial)
        readings = reading_notes(tasks, manifest)
        for line in [*leaks, *readings, *label_warnings(tasks, folds, manifest, inner=chooses_inside(config))]:
            display.say(f"note: {line}")
        warnings += [*leaks, *readings]
        unlabelled = _unlabelled(config, manifest, out, display, started)
        check_head_tasks(config.head, tasks)
        for part in config.parts():
            check_head_tasks(part.head, tasks)
            check_augmentation(part, tasks, upstream)
        warnings += lacking_video(upstream, list(manifest))
        warnings += _check_inputs(config, corpus, upstream, out, started)
        save_config(config, out / "config.json")
    for stream in config.of_streams() if config.alone_first else ():
        new_downstream(config.alone(stream), Streams({stream: upstream.streams[stream]}), tasks, "count")
    display.say(_trainable_weights(resolved, upstream, tasks))
    if collapse := _may_collapse(config, upstream):
        display.say(collapse)
        warnings.append(collapse)
    utterances = list(joined(manifest, unlabelled) if unlabelled else manifest)
    stored, source = run_source(resolved, upstream, utterances, out, accelerator, display)
    data = corpus, manifest, folds, tasks
    return Run(resolved, RunFolder(out), *data, upstream, source, display, tuple(warnings), stored, unlabelled)


def _check_settings(config: RunConfig) -> tuple[Corpus, Upstream]:
    """Corpus and upstream of a config, every setting of which is checked that needs no data."""
    check_average(config)
    for trial in trials(config):
        check_options("Head", trial.config.head, head_class(trial.config.head), trial.config.head_options)
        for part in trial.config.parts():
            check_options("Head", part.head, head_class(part.head), part.head_options)
            check_fitted(part)
        if config.alone_first and head_class(trial.config.head).is_fitted:
            raise ValueError(f"alone_first trains streams, and a solver fits head {trial.config.head!r}. Leave it out.")
        check_fusion(trial.config.head, trial.config.fusion, tuple(trial.config.of_streams()))
    corpus = load_corpus(config.corpus, config.corpus_options)
    corpus.check_protocol(config.protocol)
    return corpus, open_upstream(config)


def _check_inputs(config: RunConfig, corpus: Corpus, upstream: Upstream, out: Path, started: bool) -> list[str]:
    """Record the inputs of a new run, compare those of a resumed one; sentences for the results."""
    corpora = {"corpus": (corpus, Path(config.root).expanduser() if config.root else None)}
    if config.unlabelled is not None:
        corpora["unlabelled"] = (unlabelled_corpus(config.unlabelled), None)
    found = record_start(config, upstream, corpora)
    if started:
        return check_start(out, found, config, corpora)
    write_json(out / STARTED, found)
    return []


def with_layers(config: RunConfig, upstream: Upstream) -> RunConfig:
    """The config, `layers=best` in it as a sweep over all layers of the upstream.

    No such layer is refused, and `best` where there is nothing to choose or each layer would train the upstream.
    """
    for trial in trials(config):
        for name, own in trial.config.of_streams().items():
            part, prefix = upstream.streams[name], f"streams.{name}." if config.has_streams else ""
            last = part.num_layers - 1
            if isinstance(own.layers, int) and own.layers > last:
                raise ValueError(
                    f"{prefix}layers={own.layers}: {part.name!r} has the layers 0 (input of the first block) to "
                    f"{last}. Give one of these, layers=sum or layers=best."
                )
    own_layers = [name for name, own in config.streams.items() if own.layers is not None]
    if (config.layers == "best" or "layers" in config.sweep) and len(own_layers) == len(config.of_streams()):
        raise ValueError(
            f"layers=best and sweep.layers try layers where no other is given; streams.{own_layers[0]}.layers is. "
            f"Leave one of them out."
        )
    if config.layers != "best":
        return config
    if config.trained != "frozen":
        raise ValueError(
            f"layers=best trains a head on each layer of a frozen upstream; with mode={config.trained} each would be a "
            f"training of the whole upstream. Find the layer with mode=frozen layers=best, then give its number: "
            f"mode={config.trained} layers=N."
        )
    if last == 0:
        raise ValueError(f"layers=best: {upstream.name!r} has one layer, so there is nothing to choose. Leave it out.")
    return config.model_copy(update={"layers": "sum", "sweep": {"layers": tuple(range(last + 1)), **config.sweep}})


def _trainable_weights(config: RunConfig, upstream: Upstream, tasks: tuple[Task, ...]) -> str:
    """`lora: trains 294,912 of 94,371,712 upstream weights, and 199,190 of layer sum and head`."""
    own = f"{trained_parameters(new_downstream(config, upstream, tasks, 'count')):,} of layer sum and head"
    if config.trained == "frozen":
        return f"frozen: trains no upstream weight, {own}"
    weights = list(adapted(upstream, config).parameters())
    trainable = sum(weight.numel() for weight in weights if weight.requires_grad)
    modes = {name: one.mode for name, one in config.of_streams().items()}
    mode = config.mode if len(modes) == 1 else ", ".join(f"{name} {mode}" for name, mode in modes.items())
    return f"{mode}: trains {trainable:,} of {sum(w.numel() for w in weights):,} upstream weights, and {own}"


def _may_collapse(config: RunConfig, upstream: Upstream) -> str:
    """A sentence where a ladder's target can learn to be easy to reconstruct; "" elsewhere."""
    several = any(part.num_layers > 1 for part in upstream.streams.values())
    learns = config.trained != "frozen" or (several and not isinstance(config.layers, int))
    if not (config.ladder and learns) or config.ladder_options.detach:
        return ""
    what = "layer sum" if config.trained == "frozen" else "upstream"
    return (
        f"ladder.detach=false: the {what} is trained on its own reconstruction, which may collapse; ladder.detach=true "
        f"does not"
    )


def _unlabelled(
    config: RunConfig, manifest: Manifest, out: Path, display: Display, started: bool
) -> tuple[Utterance, ...]:
    """The unlabelled speech of the config, prepared once like a corpus."""
    if config.unlabelled is None:
        return ()
    corpus, plain = unlabelled_corpus(config.unlabelled), config.model_copy(update={"root": None})
    if corpus.default_root is None:  # a corpus of ours, whose folder is not known here
        raise ValueError(f"unlabelled={config.unlabelled} is no folder. Give that of its audio: unlabelled=FOLDER.")
    found, _ = _manifest(plain, corpus, out / "unlabelled", display, started)
    return without_labels(manifest, found)


def _manifest(
    config: RunConfig, corpus: Corpus, out: Path, display: Display, started: bool
) -> tuple[Manifest, list[str]]:
    """The run's manifest and its warnings; of a run that was started before, those of its start."""
    folder, notes = out / "manifest", out / "manifest_notes.json"
    if started and (folder / FILE_NAME).is_file() and notes.is_file():
        manifest = Manifest.load(folder)
        check_unchanged(manifest)
        return manifest, list(read_json(notes))
    prepared = prepare_from_config(config, corpus, display)
    warnings = prepared.warnings + [f"skipped {path}: {reason}" for path, reason in prepared.broken]
    for warning in warnings:
        display.say(f"note: {warning}")
    prepared.manifest.save(folder)
    write_json(notes, warnings)
    return prepared.manifest, warnings
