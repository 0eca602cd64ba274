"""The settings of augmentation, all off by default: `augment.NAME=value`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

if TYPE_CHECKING:
    from undertone.downstream.task import Task
    from undertone.training.config import RunConfig

WAVES = ("noise", "speed", "gain", "reverb")
MASKS = ("time_mask", "feature_mask")


class Augmentation(BaseModel):
    """How training utterances are changed, anew at every update or in `copies`; dev and test never are.

    What changes the sound needs the upstream at every update, a frozen one's too (once for each copy); the others work
    on what is stored.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    noise: tuple[float, float] | None = Field(None, description="lowest and highest signal-to-noise ratio, dB: 5,20")
    noise_files: str | None = Field(None, description="folder of noises to draw from; none: white noise")
    speed: float = Field(0.0, ge=0, le=0.5, description="faster or slower by up to this share")
    gain: float = Field(0.0, ge=0, description="louder or softer by up to so many dB")
    reverb: float = Field(0.0, ge=0, description="made-up rooms of up to so many seconds of reverberation (to -60 dB)")
    share: float = Field(0.5, gt=0, le=1, description="chance of each of noise, speed, gain and reverb at an utterance")
    time_mask: int = Field(0, ge=0, description="SpecAugment: up to so many neighbouring frames set to 0")
    feature_mask: int = Field(0, ge=0, description="SpecAugment: up to so many neighbouring features set to 0")
    copies: int = Field(
        0, ge=0, description="svm, logistic, ridge: so many changed copies of each training utterance besides"
    )
    mixup: float = Field(0.0, ge=0, description="alpha of mixup: two utterances and their losses mixed, Beta(a, a)")

    @field_validator("noise", mode="before")
    @classmethod
    def _range(cls, value: Any) -> Any:
        """Words are split at commas; the lower ratio comes first."""
        value = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
        return sorted(map(float, value)) if isinstance(value, list | tuple) else value

    @model_validator(mode="after")
    def _files_of_noise(self) -> Augmentation:
        if self.noise_files is not None and self.noise is None:
            raise ValueError(
                "noise_files without noise, the range of ratios in dB, adds nothing; give augment.noise=5,20"
            )
        return self

    @property
    def on_waves(self) -> bool:
        """Whether the sound itself is changed."""
        return any(getattr(self, name) for name in WAVES)

    @property
    def is_on(self) -> bool:
        """Whether anything is."""
        return self != Augmentation(share=self.share, copies=self.copies)


def _check_fitted(config: RunConfig) -> None:
    """Refuse what only training by updates can be given."""
    settings = config.augment
    if others := [name for name in (*MASKS, "mixup") if getattr(settings, name)]:
        raise ValueError(f"augment.{others[0]} changes batches, and head {config.head!r} is fitted once. Leave it out.")
    if not settings.copies:
        raise ValueError(
            f"Head {config.head!r} is fitted once, and cannot be given what changes at every update. Say how many "
            f"changed copies of each utterance it is fitted on besides, as augment.copies=2, or leave augment out."
        )


def check_augmentation(config: RunConfig, tasks: Sequence[Task]) -> None:
    """Refuse what cannot be augmented.

    Raises:
        ValueError: says what to leave out.
    """
    from undertone.downstream.fitted_head import FittedHead
    from undertone.downstream.head import head_class

    settings, head = config.augment, head_class(config.head)
    if settings.copies and not issubclass(head, FittedHead):
        raise ValueError(
            f"augment.copies={settings.copies} is for heads that are fitted once, such as svm, logistic and ridge; "
            f"{config.head!r} is given other changes at every update. Leave it out."
        )
    if settings.copies and not settings.on_waves:
        raise ValueError(
            f"augment.copies={settings.copies} copies nothing but sound that is changed: add one of "
            f"{', '.join(f'augment.{name}' for name in WAVES)}."
        )
    if not settings.is_on:
        return
    if issubclass(head, FittedHead):
        _check_fitted(config)
    if any(task.level == "frame" for task in tasks) and (settings.speed or settings.mixup):
        raise ValueError("augment.speed and augment.mixup move values over time away from their times. Leave them out.")
    masks = [name for name in MASKS if getattr(settings, name)]
    if masks and (config.mode != "frozen" or head.needs == "mean"):
        raise ValueError(
            f"augment.{masks[0]} masks the frames of a frozen upstream, and mode={config.mode} with head "
            f"{config.head!r} is not fed with these. Leave it out, or use mode=frozen and head=attention."
        )
