"""The config of a saved model: all that is needed to rebuild it, as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from transformers import AutoConfig, PreTrainedConfig

from undertone.common.files import read_json
from undertone.downstream.task import Task
from undertone.upstream.hf.limits import SAMPLE_RATES, as_sentence


class UndertoneConfig(PreTrainedConfig):
    """Config of an `UndertoneModel`.

    Args:
        upstream: the upstream's `spec()`: architecture, input normalisation, sample rate; no weights.
        upstream_hash: digest of the upstream's weights; a head-only folder is refused with others.
        head: name of the head: a module of `undertone.downstream.heads`, or `my_pkg.heads:MyHead`.
        head_options: options of the head.
        tasks: the tasks as dicts, in order; `shown_task` gives `id2label` and `problem_type`.
        layer_norm: whether each layer is normalised before the sum.
        fusion: how several streams are joined for the head (`undertone.downstream.fusion`); empty: they are not.
        head_only: true when the folder holds the layer sum and the head alone, and names the upstream.
        trained_on: what the weights have seen: `corpus`, `manifest_hash`, `speakers` (names, which stay on the machine
            that trained) or, of a published model, `num_speakers` and `speaker_hashes`, `unknown_speakers`, the number
            of utterances without a speaker, and `audio_only`, true where the upstream looks at pictures and no clip had
            any: the model then looks at none.
        mode: how the upstream was trained: `frozen`, `finetune`, `lora`; empty where it is not known.
        calibration: {task: {`temperature`, by which the logits are divided, `unsure_below`, the probability of the
            predicted class below which it is unsure, `num_dev`}}, see `undertone.scoring.calibration`.
        speech_only: whether predictions are refused where the detector of `undertone.audio.speech` finds no speech: it
            recognised the clips that the model was trained on.
    """

    model_type = "undertone"

    def __init__(
        self,
        upstream: dict[str, Any] | None = None,
        upstream_hash: str = "",
        head: str = "attention",
        head_options: dict[str, Any] | None = None,
        tasks: list[dict[str, Any]] | None = None,
        layer_norm: bool = False,
        fusion: str = "",
        head_only: bool = False,
        trained_on: dict[str, Any] | None = None,
        mode: str = "",
        calibration: dict[str, dict[str, float]] | None = None,
        speech_only: bool = False,
        **kwargs: Any,
    ) -> None:
        self.upstream = upstream or {}
        self.upstream_hash = upstream_hash
        self.head = head
        self.head_options = head_options or {}
        self.tasks = tasks or []
        self.layer_norm = layer_norm
        self.fusion = fusion
        self.head_only = head_only
        self.trained_on = trained_on or {}
        self.calibration = calibration or {}
        self.speech_only = speech_only
        self.mode = mode
        shown = next((task for task in self.tasks if task["name"] == self.shown_task), None)
        if shown is not None:
            kwargs["id2label"] = dict(enumerate(shown["labels"]))
            kwargs["label2id"] = {label: index for index, label in enumerate(shown["labels"])}
            kwargs["problem_type"] = "regression" if shown["kind"] == "regression" else "single_label_classification"
        super().__init__(**kwargs)

    @property
    def shown_task(self) -> str:
        """The one task that transformers' interfaces show: the first with classes, or the first; "" without tasks."""
        order = sorted(self.tasks, key=lambda task: task["kind"] == "regression")
        return str(order[0]["name"]) if order else ""

    def make_tasks(self) -> tuple[Task, ...]:
        """The tasks as `Task` objects."""
        return tuple(Task(**task) for task in self.tasks)


AutoConfig.register("undertone", UndertoneConfig, exist_ok=True)


class UndertoneRunConfig(PreTrainedConfig):
    """The config.json of a run, which has settings of a training: the Auto classes refuse it with the model's folder.

    Without `import undertone.hub` transformers itself says that it does not know the type `undertone-run`.
    """

    model_type = "undertone-run"

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> UndertoneRunConfig:
        """Refuse it."""
        folder = str(kwargs.get("name_or_path") or config_dict.get("_name_or_path") or "RUN").rstrip("/")
        raise ValueError(
            f"{folder} is the folder of a run, not a model. Its model is in {folder}/model: give that; a fold's is in "
            f"{folder}/folds/NAME/model."
        )


AutoConfig.register(UndertoneRunConfig.model_type, UndertoneRunConfig, exist_ok=True)


class _SavedUpstream(BaseModel):
    """An upstream as `Upstream.spec` describes it."""

    model_config = ConfigDict(strict=True, extra="allow")

    kind: Literal["hf", "class", "streams"]
    name: str = Field(min_length=1)
    options: dict[str, Any] = {}
    config: dict[str, Any] = {}
    revision: str | None = None
    commit: str | None = None
    do_normalize: bool = False
    sample_rate: int = Field(SAMPLE_RATES[0], ge=SAMPLE_RATES[0], le=SAMPLE_RATES[1])
    streams: list[_SavedUpstream] = []  # of the kind `streams`
    stream: str = Field("", pattern=r"([a-z][a-z0-9_]*)?")  # name of one of these

    @model_validator(mode="after")
    def _streams_have_names(self) -> _SavedUpstream:
        if bool(self.streams) != (self.kind == "streams"):
            raise ValueError("streams are those of an upstream of the kind 'streams'")
        names = [one.stream for one in self.streams]
        if len({*names, ""}) <= len(names) or any(one.streams for one in self.streams):
            raise ValueError("each of several streams has a name of its own, and no streams in it")
        return self


class _SavedCalibration(BaseModel):
    """What dev said about the confidence of a task."""

    model_config = ConfigDict(strict=True, extra="allow")

    temperature: float = Field(gt=0, allow_inf_nan=False)
    unsure_below: float = Field(ge=0, le=1)


class _Saved(BaseModel):
    """The part of config.json that is ours; transformers' own settings stand beside it."""

    model_config = ConfigDict(strict=True, extra="allow")

    model_type: Literal["undertone"]
    upstream: _SavedUpstream
    upstream_hash: str = ""
    head: str
    head_options: dict[str, Any] = {}
    tasks: list[Task] = Field(min_length=1)
    layer_norm: bool = False
    fusion: Literal["", "concat", "gate", "attention", "late"] = ""
    head_only: bool = False
    trained_on: dict[str, Any] = {}
    mode: str = ""
    calibration: dict[str, _SavedCalibration] = {}
    speech_only: bool = False

    @model_validator(mode="after")
    def _known_tasks(self) -> _Saved:
        classified = {task.name for task in self.tasks if task.has_classes}
        if unknown := sorted(self.calibration.keys() - classified):
            raise ValueError(f"calibration of {unknown[0]!r}, which is no task with classes")
        return self


def read_config(folder: Path) -> UndertoneConfig:
    """The config of a saved model, checked to have the form that `save_pretrained` writes."""
    path = folder / "config.json"
    values = read_json(path)
    kind = values.get("model_type") if isinstance(values, dict) else None
    if isinstance(kind, str) and kind != UndertoneConfig.model_type:
        raise ValueError(
            f"{folder} holds a {kind!r} model and none that Undertone trained. `undertone crossval CORPUS --upstream "
            f"{folder}` trains a head on it."
        )
    try:
        _Saved.model_validate_json(json.dumps(values))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise ValueError(
            f"{path} is not as Undertone writes it: {place}: {first['msg']}. Download or save the model again."
        ) from error
    with as_sentence(f"{path} is not as Undertone writes it"):
        return UndertoneConfig.from_dict(values)
