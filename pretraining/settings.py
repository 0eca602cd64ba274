"""The settings of a pretraining."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from undertone.common.discovery import nearest
from undertone.training.augmentation import Augmentation
from undertone.training.config import explain
from undertone.training.settings import assign


class Pretraining(BaseModel):
    """What `undertone pretrain` does; the command's options have the same names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    corpora: tuple[str, ...] = Field(min_length=1, description="corpora, tables and folders of audio")
    roots: tuple[str, ...] = Field((), description="folder of the audio of each corpus; empty: its default")
    fold: tuple[str, ...] = Field((), description="FOLD or CORPUS:FOLD whose test speakers are excluded")
    protocol: str | None = Field(None, description="by which the folds are made; none: the corpus' own")
    transductive: bool = Field(False, description="use test speakers too; every result that follows is marked")

    upstream: str | None = Field(None, description="Hub id or folder to continue")
    revision: str | None = Field(None, description="its branch, tag or commit on the Hub")
    size: Literal["tiny", "small"] | None = Field(None, description="a new model instead of an upstream")
    mode: Literal["full", "lora"] = Field("full", description="which weights learn")
    lora_rank: int = Field(16, ge=1, description="of the adapters, which are merged in the end")
    train_front_end: bool | None = Field(None, description="the convolutions too; none: of a new model")

    objective: Literal["units", "workers", "contrastive"] = Field("units", description="what is predicted")
    targets: str = Field("mel", description="of units: mfcc, mel, or layer:N of the upstream as it was")
    num_units: int = Field(256, ge=2, description="classes that are predicted")
    mask: float = Field(0.5, gt=0, lt=1, description="fraction of the frames that spans start to cover")
    mask_length: int = Field(10, ge=1, description="frames of a span")
    num_negatives: int = Field(100, ge=1, description="distractors of the contrastive loss")

    max_steps: int = Field(10_000, ge=1, description="updates")
    batch_size: int = Field(32, ge=1, description="utterances an update, over all processes")
    crop: float = Field(8.0, gt=0, description="seconds; a random stretch of a longer utterance is taken")
    learning_rate: float = Field(5e-4, gt=0, description="peak rate")
    warmup: float = Field(0.08, ge=0, le=1, description="fraction of the updates over which the rate rises")
    weight_decay: float = Field(0.01, ge=0, description="of AdamW")
    clip_norm: float = Field(1.0, gt=0, description="largest norm of the gradient")
    log_every: int = Field(100, ge=1, description="updates between records and checkpoints")
    augment: Augmentation = Field(Augmentation(), description="augment.speed, noise, gain, reverb, lowpass, highpass")
    seed: int = Field(0, description="of weights, order, masks, crops and negatives")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where it computes")
    mixed_precision: Literal["no", "bf16", "fp16"] = Field("no", description="autocast")

    @field_validator("targets")
    @classmethod
    def _known(cls, value: str) -> str:
        kind, colon, layer = value.partition(":")
        if value not in ("mfcc", "mel") and not (kind == "layer" and colon and layer.isdigit()):
            raise ValueError(f"targets must be mfcc, mel or layer:N, such as layer:9, got {value!r}")
        return value

    @property
    def warmup_steps(self) -> int:
        """Updates over which the rate rises."""
        return max(1, round(self.warmup * self.max_steps))

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.upstream is None) == (self.size is None):
            raise ValueError("give --upstream ID to continue a model, or --size tiny to start from nothing")
        if self.roots and len(self.roots) != len(self.corpora):
            raise ValueError(
                f"--root has {len(self.roots)} folders for {len(self.corpora)} corpora: F+G in their order"
            )
        if self.size is not None and (self.mode == "lora" or self.targets.startswith("layer")):
            what = "--mode lora" if self.mode == "lora" else f"--targets {self.targets}"
            raise ValueError(f"{what} needs weights that were trained before: give --upstream ID")
        if self.augment.copies or self.augment.mixup or self.augment.time_mask or self.augment.feature_mask:
            raise ValueError(
                "augment takes speed, noise, reverb, gain, lowpass and highpass here, which change the audio"
            )
        return self


def make_settings(values: dict[str, Any], words: Iterable[str] = ()) -> Pretraining:
    """The settings of a command's options (None = not given) and of `key=value` words, such as `augment.speed=0.1`.

    Raises:
        ValueError: a word without `=`, an unknown setting (the message names the nearest), a value that cannot be.
    """
    given = {key: value for key, value in values.items() if value is not None}
    for word in words:
        assign(given, word)
    if unknown := sorted(given.keys() - Pretraining.model_fields.keys()):
        raise ValueError(f"Unknown setting {unknown[0]!r}.{nearest(unknown[0], Pretraining.model_fields)}")
    try:
        return Pretraining(**given)
    except ValidationError as error:
        raise ValueError(explain(error)) from error
