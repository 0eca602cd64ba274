"""The settings `augment.NAME`: how training utterances are changed."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

WAVES = ("noise", "speed", "gain", "reverb", "lowpass", "highpass")
MASKS = ("time_mask", "feature_mask")
LEAST_CUTOFF = 300  # Hz


class Augmentation(BaseModel):
    """How training utterances are changed, differently at every update or in `copies`; dev and test never are.

    Changes of the audio run the upstream at every update, also a frozen one; with `copies` once per copy, whose states
    are stored. The others act on stored hidden states.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    noise: tuple[float, float] | None = Field(None, description="lowest and highest signal-to-noise ratio in dB: 5,20")
    noise_files: str | None = Field(None, description="folder of noise recordings; null: white noise")
    speed: float = Field(0.0, ge=0, le=0.5, description="largest relative change of speed; 0.1: 0.9 to 1.1 x")
    gain: float = Field(0.0, ge=0, description="largest change of loudness in dB")
    reverb: float = Field(0.0, ge=0, description="longest reverberation time (RT60) of simulated rooms in seconds")
    lowpass: float = Field(
        0.0, ge=0, description="lowest cutoff in Hz above which all is removed, as by a telephone or a codec; 2000"
    )
    highpass: float = Field(
        0.0, ge=0, le=1000, description="highest cutoff in Hz below which all is removed, as by a telephone; 400"
    )
    share: float = Field(
        0.5, gt=0, le=1, description="probability of noise, speed, gain, reverb, lowpass and highpass, each"
    )
    time_mask: int = Field(0, ge=0, description="SpecAugment: most neighbouring frames set to 0")
    feature_mask: int = Field(0, ge=0, description="SpecAugment: most neighbouring features set to 0")
    copies: int = Field(
        0, ge=0, description="changed copies of each training utterance, computed once; 0: new changes at every update"
    )
    mixup: float = Field(0.0, ge=0, description="alpha of mixup: mix two utterances and their losses by Beta(a, a)")

    @field_validator("lowpass")
    @classmethod
    def _hertz(cls, value: float) -> float:
        if 0 < value < LEAST_CUTOFF:
            raise ValueError(f"should be 0 or at least {LEAST_CUTOFF} Hz, below which there is little speech")
        return value

    @field_validator("noise", mode="before")
    @classmethod
    def _range(cls, value: Any) -> Any:
        """`20,5` is split and sorted."""
        value = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
        return sorted(map(float, value)) if isinstance(value, list | tuple) else value

    @model_validator(mode="after")
    def _files_of_noise(self) -> Augmentation:
        if self.noise_files is not None and self.noise is None:
            raise ValueError(
                "noise_files needs noise, the range of signal-to-noise ratios in dB: give augment.noise=5,20"
            )
        return self

    @property
    def on_waves(self) -> bool:
        """Whether the audio is changed."""
        return any(getattr(self, name) for name in WAVES)

    @property
    def is_on(self) -> bool:
        """Whether anything is changed."""
        return self != Augmentation(share=self.share, copies=self.copies)
