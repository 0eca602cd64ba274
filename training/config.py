"""The config of a run: validated and frozen before anything heavy starts, saved resolved beside the results."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)

from undertone.common.discovery import nearest
from undertone.common.files import safe_name
from undertone.downstream.ladder_options import LadderOptions
from undertone.training.augmentation import Augmentation
from undertone.training.values import ONLY, named_upstreams, parse, split

SWEEPABLE = (
    "layers",
    "learning_rate",
    "upstream_learning_rate",
    "layer_sum_learning_rate",
    "weight_decay",
    "warmup",
    "schedule",
    "clip_norm",
    "batch_size",
    "max_epochs",
    "max_steps",
    "average_top",
    "lora_rank",
    "lora_alpha",
    "lora_dropout",
    "class_weights",
    "label_smoothing",
    "focal_gamma",
    "regression_loss",
    "task_weighting",
    "adversarial_weight",
)
"""Settings that a sweep may vary, beside `head.NAME` and `ladder.NAME`: they change no data and no hidden states."""


# ---- The settings of a run, one class a group. `undertone list settings` and docs/settings.md are made from these.

MOST_TRIALS = 1000


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataSettings(_Settings):
    """Which speech, which labels, and how it is divided into folds."""

    corpus: str = Field(
        description="name (undertone list corpora), CSV / JSONL / Parquet table, folder, hf:user/name, ./my_corpus.py; "
        "or several, A+B"
    )
    corpus_options: dict[str, Any] = Field({}, description="options of the corpus (undertone list corpora NAME)")
    root: str | None = Field(None, description="folder of the corpus' audio; of several corpora A+B, their folders F+G")
    strict: bool = Field(False, description="stop at a broken file instead of skipping it")
    tasks: tuple[str, ...] = Field(
        (),
        description="columns to predict, series.NAME over time; empty: emotion (else the dimensions), and gender",
    )
    soft_labels: bool = Field(False, description="train on the distribution of the raters' votes instead of one label")
    protocol: str | None = Field(
        None,
        description="speaker, session, groups, text, corpus, split, random, auto or the corpus' own; null: the corpus' "
        "default",
    )
    num_folds: int | None = Field(
        None, ge=2, description="number of folds of the protocols `groups` and `random`, of speaker groups of `text`"
    )
    allow_leak: bool = Field(
        False, description="allow folds that share speakers; every score is then marked speaker-dependent"
    )


class StreamSettings(_Settings):
    """What one of several upstreams has of its own; where nothing is given, the settings of the run hold for it."""

    revision: str | None = None
    options: dict[str, Any] = {}
    mode: Literal["frozen", "finetune", "lora"] | None = None
    train_front_end: bool | None = None
    top_layers: int | None = Field(None, ge=1)
    upstream_learning_rate: float | None = Field(None, gt=0)
    layers: Literal["sum"] | int | None = None


class UpstreamSettings(_Settings):
    """The upstream, or several, and how much of them is trained."""

    upstream: str = Field(
        "fbank",
        description="a name (undertone list upstreams), Hub id, folder or ./my_upstream.py; or several with names, "
        "ssl=microsoft/wavlm-base+mfcc",
    )
    streams: dict[str, StreamSettings] = Field(
        {},
        description="what one of several upstreams has of its own: streams.ssl.mode=lora; also options, revision, "
        "layers, upstream_learning_rate, top_layers, train_front_end",
    )
    revision: str | None = Field(None, description="branch, tag or commit of the upstream on the Hub")
    upstream_options: dict[str, Any] = Field({}, description="options of the upstream (undertone list upstreams NAME)")
    mode: Literal["frozen", "finetune", "lora"] = Field("frozen", description="which weights of the upstream train")
    train_front_end: bool = Field(False, description="finetune: also train the convolutional feature encoder")
    top_layers: int | None = Field(
        None, ge=1, description="finetune: train only this many of the last blocks; the output of the others is stored"
    )
    upstream_learning_rate: float = Field(1e-5, gt=0, description="peak learning rate of the upstream or its adapters")
    lora_rank: int = Field(8, ge=1, description="rank of the LoRA adapters")
    lora_alpha: int = Field(16, ge=1, description="the adapters are scaled by alpha / rank")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="dropout before the adapters")
    gradient_checkpointing: bool = Field(
        False, description="recompute activations in the backward pass: less memory, more time"
    )

    @field_validator("upstream")
    @classmethod
    def _named(cls, value: str) -> str:
        """Refuse several upstreams without names."""
        named_upstreams(value)
        return value

    @field_serializer("streams")
    def _given(self, streams: dict[str, StreamSettings]) -> dict[str, Any]:
        """Only what is given."""
        return {name: own.model_dump(mode="json", exclude_defaults=True) for name, own in streams.items()}

    @model_validator(mode="after")
    def _streams_exist(self) -> Self:
        known = named_upstreams(self.upstream)
        alone = known == {ONLY: self.upstream}
        if unknown := [name for name in self.streams if alone or name not in known]:
            names = "there is one upstream, without a name" if alone else f"the streams are {', '.join(known)}"
            raise ValueError(f"streams.{unknown[0]}: no stream of that name; {names}")
        if not alone and (self.revision is not None or self.upstream_options):
            given = "revision" if self.revision is not None else "options"
            raise ValueError(
                f"{given} of one of several upstreams: give streams.NAME.{given}=..., NAME one of {', '.join(known)}"
            )
        return self


class HeadSettings(_Settings):
    """The layer sum and the head on top of it."""

    layers: Literal["sum", "best"] | int = Field(
        "sum",
        description="which hidden states: sum, all by learned weights; 9, layer 9 alone (0 = input of the first "
        "block); best, the layer that dev chooses for each fold",
    )
    layer_norm: bool = Field(False, description="normalise every layer before the layer sum")
    head: str = Field("attention", description="a head (undertone list heads), ./my_head.py or my_pkg.heads:MyHead")
    head_options: dict[str, Any] = Field({}, description="options of the head (undertone list heads NAME)")
    fusion: Literal["concat", "gate", "attention", "late"] | None = Field(
        None,
        description="how several upstreams are joined: concat, features side by side; gate, a learned weight each; "
        "attention, weights for each frame; late, a head each; null: there is one, or the head takes several",
    )

    alone_first: bool = Field(
        False,
        description="of several upstreams: train each alone first; what belongs to it starts the training of all",
    )

    @field_validator("layers", mode="before")
    @classmethod
    def _layers(cls, value: Any) -> Any:
        """One message instead of one for each type of the union."""
        if value in ("sum", "best") or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
            return value
        raise ValueError("give sum, best, or the number of one layer, 0 or more (0 = input of the first block)")


class LadderSettings(_Settings):
    """Learning from unlabelled speech: ladder network (Rasmus et al. 2015), mean teacher, pseudo-labels."""

    ladder: bool = Field(False, description="add the reconstruction loss of a ladder network to the head")
    ladder_options: LadderOptions = Field(LadderOptions(), description="how the ladder corrupts and reconstructs")
    mean_teacher: float = Field(
        0.0, ge=0, description="weight of the consistency with a moving average of the weights, on unlabelled speech"
    )
    pseudo_labels: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="train again with unlabelled speech whose class is predicted with this precision on dev: 0.9",
    )
    unlabelled: str | None = Field(
        None, description="speech without labels for these: a folder of audio files, or as corpus"
    )

    @field_serializer("ladder_options")
    def _given_options(self, options: LadderOptions) -> dict[str, Any]:
        """Only what differs from the defaults, as the command line gives it."""
        return options.model_dump(mode="json", exclude_defaults=True)

    @model_validator(mode="after")
    def _ladder(self) -> Self:
        given = {
            "ladder=true": self.ladder,
            f"mean_teacher={self.mean_teacher:g}": self.mean_teacher > 0,
            f"pseudo_labels={self.pseudo_labels}": self.pseudo_labels is not None,
        }
        used = [name for name, on in given.items() if on]
        if self.unlabelled is not None and not used:
            methods = "ladder=true, mean_teacher=10, pseudo_labels=0.9"
            raise ValueError(f"unlabelled={self.unlabelled} needs a method: add one of {methods}.")
        if self.unlabelled is None and used and used != ["ladder=true"]:
            raise ValueError(
                f"{used[-1].partition('=')[0]} learns from speech without labels: add --unlabelled FOLDER."
            )
        if len(used) > 1:
            raise ValueError(
                f"One method for unlabelled speech at a time, got {' and '.join(used)}. Leave all but one out."
            )
        return self


class LossesSettings(_Settings):
    """What the training minimises."""

    task_weights: dict[str, float] = Field({}, description="factor of a task's loss; default: 1")
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="balanced: every class has the same total weight, however rare it is"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="probability spread evenly over all classes")
    focal_gamma: float = Field(0.0, ge=0, description="exponent gamma of the focal loss; 0: cross-entropy")
    regression_loss: Literal["ccc", "mse"] = Field("ccc", description="of values: 1 - CCC, or the mean squared error")
    task_weighting: Literal["fixed", "uncertainty"] = Field(
        "fixed", description="uncertainty: learn the tasks' weights (Kendall et al. 2018), on top of task_weights"
    )
    adversarial: tuple[str, ...] = Field(
        (), description="columns that the embedding must not reveal, by gradient reversal: speaker, corpus, gender"
    )
    adversarial_weight: float = Field(1.0, ge=0, description="final factor of the reversed gradient; it rises from 0")


class OptimisationSettings(_Settings):
    """Seeds, sweeps, learning rates, batches and the length of a training."""

    seed: int = Field(0, ge=0, description="decides initial weights, order, dropout and randomly drawn folds")
    seeds: tuple[int, ...] = Field((), description="train every fold with each seed: 3 (0, 1 and 2), or 0,7,9")
    sweep: dict[str, tuple[Any, ...]] = Field(
        {}, description="values to try, as sweep.NAME=a,b; dev chooses one for each fold (head.C: for each task)"
    )
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate of AdamW")
    layer_sum_learning_rate: float | None = Field(
        0.1, gt=0, description="peak learning rate of the layer sum, without weight decay; null: that of the head"
    )
    weight_decay: float = Field(0.01, ge=0, description="decoupled weight decay; 0 makes AdamW plain Adam")
    warmup: float = Field(0.1, ge=0, le=1, description="fraction of the updates over which the rate rises from 0")
    schedule: Literal["linear", "cosine", "constant"] = Field("linear", description="how the rate falls after warmup")
    clip_norm: float = Field(1.0, gt=0, description="largest norm of the gradient")
    sampling: Literal["proportional", "balanced"] = Field(
        "proportional",
        description="of several corpora; proportional: each utterance once an epoch; balanced: as many of each corpus",
    )
    batch_size: int = Field(32, ge=1, description="utterances per update, over all processes and micro-batches")
    accumulation: int = Field(
        1,
        ge=1,
        description="micro-batches per update: less memory, same gradient but for batch norm; CCC needs two passes",
    )
    max_epochs: int = Field(40, ge=1, description="passes over the training utterances")
    max_steps: int | None = Field(None, ge=1, description="updates; overrides max_epochs")
    not_finite: Literal["stop", "skip"] = Field(
        "stop", description="what to do with an update whose loss or gradient is NaN or infinite"
    )


class AugmentationSettings(_Settings):
    """How training utterances are changed."""

    augment: Augmentation = Field(Augmentation(), description="how training utterances are changed; off")


class EvaluationSettings(_Settings):
    """When dev is scored, what it chooses, and when a training stops."""

    eval_every: int | None = Field(None, ge=1, description="updates between two evaluations on dev; null: an epoch")
    patience: int = Field(15, ge=1, description="stop after this many evaluations without a better dev score")
    select_by: Literal["uar", "wa", "macro_f1", "ccc"] | None = Field(
        None,
        description="dev score of the first task that selects the weights; null: mean over tasks of UAR (classes) and "
        "CCC (values)",
    )
    average_top: int = Field(1, ge=1, description="average the weights of the k best evaluations on dev")
    dev: Literal["fold", "inner"] | None = Field(
        None,
        description="what chooses: the fold's dev part, or (the default of svm, logistic, lda, ridge) inner folds over "
        "the speakers of train and dev, all of which are then fitted",
    )
    refit_on_dev: bool = Field(
        False, description="train again on train and dev, for the number of updates that was best on dev"
    )
    postprocess: tuple[Literal["median", "centring", "scaling", "delay"], ...] = Field(
        (), description="steps on predictions over time that dev may choose from: median,delay"
    )

    @model_validator(mode="after")
    def _dev_is_kept(self) -> Self:
        if self.postprocess and self.refit_on_dev:
            raise ValueError("postprocess is chosen on dev, which refit_on_dev trains on. Leave one of them out.")
        return self


class StoreSettings(_Settings):
    """Where and how the hidden states of a frozen upstream are stored."""

    store: str | None = Field(None, description="folder of stored hidden states; null: ~/.cache/undertone/store")
    store_dtype: Literal["float16", "bfloat16", "float32", "int8"] = Field(
        "float16", description="precision of stored frames; int8 has a scale for each layer and feature of an utterance"
    )
    store_budget: ByteSize | None = Field(
        None, ge=0, description="disk space for new hidden states, such as 20GB; null: half of the free space"
    )
    memory: float | None = Field(
        None, ge=0, description="GB of stored hidden states kept in memory; null: half of it; the rest is read again"
    )


class OutputSettings(_Settings):
    """Device, precision and logging."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to compute")
    mixed_precision: Literal["no", "bf16", "fp16", "int8", "auto"] = Field(
        "no",
        description="autocast, also of a frozen upstream; int8: its linear layers, on a CPU; "
        "auto: bf16 where it is computed natively",
    )
    deterministic: bool = Field(False, description="use only deterministic algorithms, which are slower on a GPU")
    log_with: Literal["tensorboard", "wandb", "mlflow", "comet", "none"] = Field(
        "none", description="tracker that follows the training; all but tensorboard are extras: undertone[wandb]"
    )


AVERAGE = "average"  # the head that gives each stream a head of its own and trains it alone
RUN_TYPE = "undertone-run"  # `model_type` in RUN/config.json, for transformers' Auto classes


class RunConfig(  # pydantic takes the fields of the last class first
    OutputSettings,
    StoreSettings,
    EvaluationSettings,
    AugmentationSettings,
    OptimisationSettings,
    LossesSettings,
    LadderSettings,
    HeadSettings,
    UpstreamSettings,
    DataSettings,
):
    """Everything that decides a run's numbers. `undertone crossval CORPUS key=value` sets any of these by name."""

    @model_validator(mode="before")
    @classmethod
    def _of_a_run(cls, values: Any) -> Any:
        """RUN/config.json says to transformers what it is; that is no setting."""
        is_run = isinstance(values, dict) and values.get("model_type") == RUN_TYPE
        return {key: value for key, value in values.items() if key != "model_type"} if is_run else values

    @field_validator("mixed_precision", mode="before")
    @classmethod
    def _no(cls, value: Any) -> Any:
        """YAML 1.1 reads the word `no` as false."""
        return "no" if value is False else value

    @field_validator("seeds", mode="before")
    @classmethod
    def _seeds(cls, value: Any) -> Any:
        """N stands for the seeds 0 to N - 1; `0,7,9` is split."""
        if isinstance(value, str):
            value = split(value) if "," in value else parse(value)
        value = tuple(range(min(value, MOST_TRIALS + 1))) if isinstance(value, int) else value
        if not isinstance(value, list | tuple):
            return value  # which pydantic refuses
        if len(set(map(str, value))) < len(value) or len(value) == 1:
            raise ValueError("give two different seeds or more; one alone is seed=NUMBER")
        return value

    @field_validator("sweep", mode="before")
    @classmethod
    def _sweep(cls, value: Any) -> Any:
        """Every value of a setting that can be swept, two or more of each; `a,b` is split."""
        if not isinstance(value, Mapping):
            return value  # which pydantic refuses
        found = {
            SHORT.get(key, str(key)): split(some) if isinstance(some, str) else some for key, some in value.items()
        }
        for key, some in found.items():
            if key not in SWEEPABLE and not key.startswith(("head.", "ladder.")):
                raise ValueError(f"{key!r} cannot be swept.{nearest(key, [*SWEEPABLE, 'head.NAME'])}")
            if not isinstance(some, list | tuple) or len(some) < 2:
                raise ValueError(f"{key!r} needs two values or more, as sweep.{key}=a,b")
            if key == "layers" and "best" in some:
                raise ValueError("layers=best is itself a sweep over all layers: write it alone, or name the layers")
        return found

    @property
    def has_streams(self) -> bool:
        """Whether there are several upstreams, or one with a name."""
        return named_upstreams(self.upstream) != {ONLY: self.upstream}

    def of_streams(self) -> dict[str, RunConfig]:
        """{stream: the settings of its upstream, as if it were the only one}; of one upstream {"speech": these}."""
        if not self.has_streams:
            return {ONLY: self}
        found = {}
        for name, upstream in named_upstreams(self.upstream).items():
            own = self.streams.get(name, StreamSettings())
            given = {key: value for key, value in own if key != "options" and value is not None}
            given |= {"upstream": upstream, "upstream_options": own.options, "streams": {}, **self._part(name)}
            found[name] = self.model_copy(update=given)
        return found

    def alone(self, stream: str) -> RunConfig:
        """The settings of a training on one of several upstreams, which keeps its name."""
        upstream = f"{stream}={named_upstreams(self.upstream)[stream]}"
        streams = {stream: self.streams[stream]} if stream in self.streams else {}
        own = self.of_streams()[stream].model_dump(include={"mode", "head", "head_options", "sweep"})
        own |= {"upstream": upstream, "streams": streams, "fusion": None, "alone_first": False}
        return self.model_copy(update=own)

    def _part(self, stream: str) -> dict[str, Any]:
        """The settings that the head `average` gives a stream."""
        if self.head != AVERAGE:
            return {}
        from undertone.downstream.heads.average import parts_of

        part = parts_of(self.head_options.get("heads"), named_upstreams(self.upstream))[stream]
        sweep = {"head.C": part.C} if part.C else {}
        return {"head": part.head, "head_options": part.options, "sweep": sweep}

    def parts(self) -> list[RunConfig]:
        """The settings of each training of a fold: with the head `average` one of each stream, else these."""
        return [self.alone(stream) for stream in self.of_streams()] if self.head == AVERAGE else [self]

    @property
    def trained(self) -> Literal["frozen", "finetune", "lora"]:
        """`mode` of the whole: finetune where an upstream is fine-tuned, else lora where one has adapters."""
        modes = {own.mode for own in self.of_streams().values()}
        return "finetune" if "finetune" in modes else "lora" if "lora" in modes else "frozen"

    def code(self) -> tuple[str, ...]:
        """The names of head and upstreams, which may be code of the user's."""
        return self.head, *named_upstreams(self.upstream).values()

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.mixed_precision == "int8" and self.trained != "frozen":
            raise ValueError(
                f"mixed_precision=int8 is for a frozen upstream, and mode={self.trained} trains its weights. "
                f"Use mixed_precision=bf16 or no."
            )
        if self.layers == "best" and "layers" in self.sweep:
            raise ValueError("layers=best tries every layer, sweep.layers those that it names. Leave one of them out.")
        if self.mean_teacher and self.trained != "frozen":
            raise ValueError(
                f"mean_teacher averages the weights of layer sum and head, and mode={self.trained} trains the upstream "
                f"too. Use mode=frozen, or ladder=true"
            )
        if self.alone_first and len(self.of_streams()) == 1:
            raise ValueError("alone_first trains each of several upstreams alone, and there is one. Leave it out")
        if self.alone_first and self.pseudo_labels is not None:
            raise ValueError("alone_first and pseudo_labels both train in stages. Leave one of them out.")
        if self.layers == "best" and len(self.of_streams()) > 1:
            raise ValueError("layers=best tries the layers of one upstream. Of several give streams.NAME.layers=NUMBER")
        return self

    @model_validator(mode="after")
    def _trials(self) -> Self:
        """Refuse a value of the sweep that its setting does not take, and too many trainings, before any starts."""
        count = math.prod(map(len, self.sweep.values())) * max(1, len(self.seeds))
        if count > MOST_TRIALS:
            raise ValueError(f"seeds and sweep ask for more than {MOST_TRIALS} trainings of a fold; give fewer values")
        try:
            trials(self)
        except ValidationError as error:
            raise ValueError(f"sweep: {explain(error)}") from error
        return self


GROUPS: dict[str, type[BaseModel]] = {
    cls.__name__.removesuffix("Settings").lower(): cls for cls in reversed(RunConfig.__bases__)
}
"""{data, upstream, ...: the settings of that group}."""

NESTED = {
    "sweep": "sweep",
    "corpus": "corpus_options",
    "head": "head_options",
    "upstream": "upstream_options",
    "streams": "streams",
    "ladder": "ladder_options",
    "task_weights": "task_weights",
    "augment": "augment",
}
"""{prefix: field} of the settings that are given as PREFIX.NAME=value."""

SHORT = {"lr": "learning_rate", "epochs": "max_epochs", "folds": "num_folds", "steps": "max_steps"}


def explain(error: ValidationError) -> str:
    """Pydantic's findings as sentences; an unknown setting names its nearest."""
    prefixes = {field: prefix for prefix, field in NESTED.items()}
    lines = []
    for item in error.errors():
        place, message = item["loc"], item["msg"].removeprefix("Value error, ")
        if not place:  # of the settings together
            lines.append(message)
            continue
        first = prefixes.get(str(place[0]), str(place[0]))
        key = ".".join([first, *map(str, place[1:])])
        if item["type"] == "extra_forbidden":
            known = [*RunConfig.model_fields, *SHORT]
            if len(place) > 1:
                default = RunConfig.model_fields[str(place[0])].default
                known_of = StreamSettings if first == "streams" else type(default)
                known = [".".join([first, *map(str, place[1:-1]), name]) for name in known_of.model_fields]
            lines.append(f"Unknown setting {key!r}.{nearest(key, known)} `undertone list settings` explains them.")
            continue
        got = "" if item["type"] == "missing" else f", got {item['input']!r}"
        lines.append(f"Setting {key!r}: {message[0].lower()}{message[1:]}{got}.")
    return " ".join(lines)


@dataclasses.dataclass(frozen=True)
class Trial:
    """One training of a fold."""

    name: str  # of its folder RUN/folds/FOLD/NAME; empty where the fold is trained once
    values: dict[str, Any]  # the swept settings
    config: RunConfig  # the run's, with these values and one seed


def trials(config: RunConfig) -> list[Trial]:
    """Every combination of the sweep's values with every seed; one trial without a name if there are neither.

    Options that a head chooses for each task separately (C of a fitted head) stay in the sweep of each trial's config.
    """
    own = per_task_sweep(config)
    swept = {key: values for key, values in config.sweep.items() if key not in own}
    if not config.seeds and not swept:
        return [Trial("", {}, config)]
    found = []
    for combination in itertools.product(*swept.values()):
        values = dict(zip(swept, combination, strict=True))
        for seed in config.seeds or (config.seed,):
            shown = values | ({"seed": seed} if config.seeds else {})
            name = safe_name(",".join(f"{key}={value}" for key, value in shown.items()), safe=_KEPT)
            found.append(Trial(name, values, with_values(config, {**values, "seed": seed}, own)))
    return found


def per_task_sweep(config: RunConfig) -> dict[str, tuple[Any, ...]]:
    """The part of the sweep that the head chooses for each task separately: `head.C` of a fitted head."""
    if not any(key.startswith("head.") for key in config.sweep):
        return {}
    from undertone.downstream.head import head_class

    per_task = head_class(config.head).per_task
    return {key: values for key, values in config.sweep.items() if key.removeprefix("head.") in per_task}


def with_values(
    config: RunConfig, values: Mapping[str, Any], left: Mapping[str, tuple[Any, ...]] | None = None
) -> RunConfig:
    """The config of one training: `values` are set, and only `left` remains to sweep."""
    settings = config.model_dump() | {"seeds": (), "sweep": dict(left or {})}
    for key, value in values.items():
        head, dot, option = key.partition(".")
        if dot:
            settings[f"{head}_options"] = {**settings[f"{head}_options"], option: value}
        else:
            settings[key] = value
    return type(config)(**settings)


_KEPT = " =,[](){}:'\""  # characters of a trial's folder name that are not quoted
