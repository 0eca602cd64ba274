"""The config of a run: validated and frozen before anything heavy starts, saved resolved beside the results."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ByteSize, ConfigDict, Field, ValidationError, field_validator, model_validator

from undertone.discovery import nearest
from undertone.downstream.ladder_options import LadderOptions
from undertone.training.augmentation import Augmentation
from undertone.training.sweep import SWEEPABLE, trials
from undertone.training.words import parse, read_yaml, split

MOST_TRIALS = 1000


class RunConfig(BaseModel):
    """Everything that decides a run's numbers. `undertone crossval CORPUS key=value` sets any of these by name."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    corpus: str = Field(
        description="name (undertone list corpora), CSV / JSONL / Parquet table, folder, hf:user/name or ./my_corpus.py"
    )
    corpus_options: dict[str, Any] = Field({}, description="options of the corpus, as corpus.NAME=value")
    root: str | None = Field(None, description="folder of the corpus' audio")
    strict: bool = Field(False, description="stop at a broken file instead of setting it aside")
    tasks: tuple[str, ...] = Field(
        (),
        description="columns to predict, series.NAME over time; empty: emotion (else the dimensions), and gender",
    )
    task_weights: dict[str, float] = Field({}, description="factor of a task's loss; 1 where not given")
    soft_labels: bool = Field(False, description="learn the raters' votes as shares of the emotions, not one label")
    protocol: str | None = Field(
        None, description="speaker, session, groups, split, random, auto or the corpus' own; none: the corpus' default"
    )
    num_folds: int | None = Field(None, ge=2, description="number of folds of the protocols `groups` and `random`")
    allow_leak: bool = Field(False, description="run folds that share speakers, and say so wherever the scores stand")

    upstream: str = Field("fbank", description="Hub id, folder, or fbank / mfcc / spectrogram")
    revision: str | None = Field(None, description="branch, tag or commit of the upstream on the Hub")
    upstream_options: dict[str, Any] = Field({}, description="options of the upstream, as upstream.NAME=value")
    mode: Literal["frozen", "finetune", "lora"] = Field("frozen", description="what of the upstream learns")
    train_front_end: bool = Field(False, description="finetune: train the convolutional front-end too")
    top_layers: int | None = Field(None, ge=1, description="finetune: only so many last blocks; the rest is stored")
    upstream_learning_rate: float = Field(1e-5, gt=0, description="peak rate of the upstream's or adapters' weights")
    lora_rank: int = Field(8, ge=1, description="rank of the LoRA adapters")
    lora_alpha: int = Field(16, ge=1, description="their scale is alpha / rank")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="dropout before the adapters")
    gradient_checkpointing: bool = Field(False, description="compute a block twice instead of keeping its values")
    layers: Literal["sum", "best"] | int = Field(
        "sum",
        description="of the hidden states: sum, all by learned weights; 9, that one alone (0 = input of the first "
        "block); best, the one that dev chooses for each fold",
    )
    layer_norm: bool = Field(False, description="normalise every layer before the layer sum")
    head: str = Field("attention", description="a head (undertone list heads), ./my_head.py or my_pkg.heads:MyHead")
    head_options: dict[str, Any] = Field({}, description="options of the head, as head.NAME=value")

    store: str | None = Field(None, description="folder of stored hidden states; none: ~/.cache/undertone/store")
    store_dtype: Literal["float16", "bfloat16", "float32", "int8"] = Field(
        "float16", description="precision of stored frames; int8 has a scale for each layer and feature of an utterance"
    )
    store_budget: ByteSize | None = Field(
        None, ge=0, description="room for hidden states yet to be stored, as 20GB; none: half of the free disk"
    )
    memory: float | None = Field(
        None, ge=0, description="GB of stored hidden states kept in memory, the rest is read again; none: half of it"
    )

    ladder: bool = Field(False, description="reconstruct the layers of the head besides (Rasmus et al. 2015)")
    ladder_options: dict[str, Any] = Field({}, description="noise, lambdas, denoiser, detach, first: ladder.NAME=value")
    unlabelled: str | None = Field(
        None, description="speech that the ladder reconstructs besides: a folder of sound files, or as corpus"
    )

    class_weights: Literal["none", "balanced"] = Field(
        "none", description="balanced: every class counts alike, however many utterances of it there are"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of a target spread over all classes")
    focal_gamma: float = Field(0.0, ge=0, description="focal loss: exponent by which what is already right counts less")
    regression_loss: Literal["ccc", "mse"] = Field("ccc", description="of values: 1 - CCC, or the squared error")
    task_weighting: Literal["fixed", "uncertainty"] = Field(
        "fixed", description="uncertainty: the tasks' weights are learned (Kendall et al. 2018), times task_weights"
    )
    adversarial: tuple[str, ...] = Field(
        (), description="columns that the embedding must not tell, by gradient reversal: speaker, corpus, gender"
    )
    adversarial_weight: float = Field(1.0, ge=0, description="the reversed gradient's factor rises from 0 to this")

    augment: Augmentation = Field(
        Augmentation(), description="how training utterances are changed, as augment.NAME=value; off"
    )

    seed: int = Field(0, ge=0, description="decides initial weights, order, dropout and the folds' draw")
    seeds: tuple[int, ...] = Field((), description="train every fold with each: 3 (0, 1 and 2), or 0,7,9")
    sweep: dict[str, tuple[Any, ...]] = Field(
        {}, description="values to try, as sweep.NAME=a,b; dev chooses one for each fold, of head.C for each task"
    )
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate of AdamW")
    layer_sum_learning_rate: float | None = Field(
        0.1, gt=0, description="peak rate of the layer sum, which has no weight decay; null: in one group with the head"
    )
    weight_decay: float = Field(0.01, ge=0, description="decoupled weight decay; 0 makes AdamW plain Adam")
    warmup: float = Field(0.1, ge=0, le=1, description="share of the steps over which the rate rises from 0")
    schedule: Literal["linear", "cosine", "constant"] = Field("linear", description="how the rate falls afterwards")
    clip_norm: float = Field(1.0, gt=0, description="gradients are scaled down to this norm")
    batch_size: int = Field(32, ge=1, description="utterances an update, over all processes and micro-batches")
    accumulation: int = Field(
        1,
        ge=1,
        description="micro-batches an update: less memory, same gradient but for batch norms; CCC needs two passes",
    )
    max_epochs: int = Field(40, ge=1, description="passes over the training utterances")
    max_steps: int | None = Field(None, ge=1, description="updates; overrides max_epochs")
    eval_every: int | None = Field(None, ge=1, description="updates between two looks at dev; none: every epoch")
    patience: int = Field(15, ge=1, description="stop after this many looks at dev without a better score")
    not_finite: Literal["stop", "skip"] = Field(
        "stop", description="what to do when a loss or gradient is NaN or infinite: stop, or leave that update out"
    )
    postprocess: tuple[Literal["median", "centring", "scaling", "delay"], ...] = Field(
        (), description="of predictions over time: the steps that dev may choose, with commas; median,delay"
    )
    dev: Literal["fold", "inner"] | None = Field(
        None,
        description="what chooses: the fold's dev part, or (heads fitted by a solver, and their default) inner folds "
        "over the speakers of train and dev, all of which are then fitted",
    )
    refit_on_dev: bool = Field(
        False, description="train once more on train and dev, for as long as was best on dev, before test is read"
    )
    average_top: int = Field(1, ge=1, description="average the weights of the so many best looks at dev")
    mixed_precision: Literal["no", "bf16", "fp16"] = Field("no", description="autocast, of a frozen upstream too")
    select_by: Literal["uar", "wa", "macro_f1", "ccc"] | None = Field(
        None,
        description="dev score of the first task, which alone selects; none: mean over tasks of uar (classes), ccc "
        "(values)",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to compute")
    deterministic: bool = Field(
        False, description="only algorithms that give the same bits every time, which on a GPU are slower"
    )
    log_with: Literal["tensorboard", "none"] = Field("none", description="an Accelerate tracker that follows the run")

    @field_validator("layers", mode="before")
    @classmethod
    def _layers(cls, value: Any) -> Any:
        """One sentence in place of one for each type that it may have."""
        if value in ("sum", "best") or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
            return value
        raise ValueError("give sum, best, or the number of one layer, 0 or more (0 = input of the first block)")

    @field_validator("seeds", mode="before")
    @classmethod
    def _seeds(cls, value: Any) -> Any:
        """A number of seeds counts from 0; words are split at commas."""
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

    @model_validator(mode="after")
    def _dev_is_kept(self) -> RunConfig:
        if self.postprocess and self.refit_on_dev:
            raise ValueError("postprocess is chosen on dev, which refit_on_dev trains on. Leave one of them out.")
        return self

    @model_validator(mode="after")
    def _ladder(self) -> RunConfig:
        """Refuse unknown options of the ladder, and unlabelled speech that nothing would hear."""
        LadderOptions.read(self.ladder_options)
        if self.unlabelled is not None and not self.ladder:
            raise ValueError(f"unlabelled={self.unlabelled} is for a ladder alone: add ladder=true.")
        return self

    @model_validator(mode="after")
    def _one_choice_of_layers(self) -> RunConfig:
        if self.layers == "best" and "layers" in self.sweep:
            raise ValueError("layers=best tries every layer, sweep.layers those that it names. Leave one of them out.")
        return self

    @model_validator(mode="after")
    def _trials(self) -> RunConfig:
        """Refuse a value of the sweep that its setting does not take, and too many trainings, before any starts."""
        count = math.prod(map(len, self.sweep.values())) * max(1, len(self.seeds))
        if count > MOST_TRIALS:
            raise ValueError(f"seeds and sweep ask for more than {MOST_TRIALS} trainings of a fold; try fewer values")
        try:
            trials(self)
        except ValidationError as error:
            raise ValueError(f"sweep: {_explain(error)}") from error
        return self


SHORT = {"lr": "learning_rate", "epochs": "max_epochs", "folds": "num_folds", "steps": "max_steps"}
NESTED = {
    "sweep": "sweep",
    "corpus": "corpus_options",
    "head": "head_options",
    "upstream": "upstream_options",
    "ladder": "ladder_options",
    "task_weights": "task_weights",
    "augment": "augment",
}


def make_config(
    values: Mapping[str, Any],
    assignments: Iterable[str] = (),
    file: Path | None = None,
    preset: Mapping[str, Any] | None = None,
) -> RunConfig:
    """Merge a preset, a YAML or JSON file, the flags' values (None = not given) and `key=value` words, and validate.

    Later ones win; one value wins over an earlier sweep of that setting.

    Raises:
        ValueError: an unreadable file, a word without `=`, an unknown key (its nearest is named), a value out of range.
    """
    merged = {**(preset or {}), **(_read_file(file) if file is not None else {})}
    for key, value in values.items():
        if value is not None:
            _unsweep(merged, key)
            merged[key] = value
    for word in assignments:
        assign(merged, word)
    unknown = [key for key in merged if key not in RunConfig.model_fields]
    if unknown:
        raise ValueError(f"Unknown setting {unknown[0]!r}.{nearest(unknown[0], [*RunConfig.model_fields, *SHORT])}")
    try:
        return RunConfig(**merged)
    except ValidationError as error:
        raise ValueError(_explain(error)) from error


def corpus_options(words: Iterable[str]) -> dict[str, Any]:
    """The options in `corpus.NAME=value` words, for a command that takes no other settings.

    Raises:
        ValueError: another setting, or a word without `=`.
    """
    merged: dict[str, Any] = {}
    for word in words:
        assign(merged, word)
        if list(merged) != ["corpus_options"]:
            raise ValueError(f"Expected corpus.NAME=value, got {word!r}; there are no other settings here.")
    return dict(merged.get("corpus_options", {}))


def _read_file(file: Path) -> dict[str, Any]:
    try:
        content = read_yaml(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"Cannot read the config {file}: {error.strerror}.") from error
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:  # PyYAML lets those of Python through
        raise ValueError(f"The config {file} is not valid YAML: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        got = "other keys than words" if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"The config {file} must hold `key: value` lines, got {got}.")
    return {SHORT.get(key, str(key)): value for key, value in content.items()}


def assign(merged: dict[str, Any], word: str) -> None:
    """Apply one `key=value`; `head.NAME=value` sets a head option; a value is read as YAML, lists with commas."""
    key, equals, text = word.partition("=")
    if not equals or not key:
        raise ValueError(f"Expected key=value, got {word!r}. For example learning_rate=3e-4 or head.dropout=0.1.")
    value = parse(text)
    prefix, dot, option = key.partition(".")
    if dot and prefix in NESTED:
        before = merged.get(NESTED[prefix], {})
        if not isinstance(before, Mapping):
            raise ValueError(f"Setting {NESTED[prefix]!r} must hold `name: value` lines, got {before!r}.")
        _unsweep(merged, key)
        merged[NESTED[prefix]] = {**before, option: value}
        return
    key = SHORT.get(key, key)
    _unsweep(merged, key)
    if key in ("tasks", "adversarial", "postprocess"):
        value = tuple(part.strip() for part in text.split(",") if part.strip())
    merged[key] = value


def _unsweep(merged: dict[str, Any], key: str) -> None:
    """Take a setting that is now given out of the sweep that a preset or a file asks for."""
    if isinstance(sweep := merged.get("sweep"), Mapping):
        merged["sweep"] = {name: values for name, values in sweep.items() if SHORT.get(name, name) != key}


def _explain(error: ValidationError) -> str:
    """The findings of pydantic as sentences."""
    lines = []
    for item in error.errors():
        message = item["msg"].removeprefix("Value error, ")
        if not item["loc"]:  # of the settings together
            lines.append(message)
            continue
        key = ".".join(str(part) for part in item["loc"])
        got = "" if item["type"] == "missing" else f", got {item['input']!r}"
        lines.append(f"Setting {key!r}: {message[0].lower()}{message[1:]}{got}.")
    return " ".join(lines)
