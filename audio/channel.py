"""What a channel does to audio: codecs, a band limit, a level that clips. Simulated, for tests of robustness."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from undertone.audio.augment import change_level
from undertone.audio.read import resampled


@dataclass(frozen=True)
class Codec:
    """A codec of libsndfile.

    Attributes:
        container: of `soundfile.available_formats()`.
        subtype: the codec in it.
        compression: of libsndfile, 0 = best quality, 1 = smallest; None: the codec has one quality.
        sample_rate: Hz that the codec carries; None: that of the audio.
    """

    container: str
    subtype: str
    compression: float | None = None
    sample_rate: int | None = None


CODECS = {
    "MP3, 32 kbit/s": Codec("MP3", "MPEG_LAYER_III", 0.842),  # at 16 to 24 kHz: 160 - compression * 152 kbit/s
    "Opus, 16 kbit/s": Codec("OGG", "OPUS", 0.96),  # 256 - compression * 250 kbit/s
    "Opus, 8 kbit/s": Codec("OGG", "OPUS", 0.992),
    "Vorbis, lowest quality": Codec("OGG", "VORBIS", 1.0),
    "A-law, 8 kHz": Codec("WAV", "ALAW", sample_rate=8000),
    "mu-law, 8 kHz": Codec("WAV", "ULAW", sample_rate=8000),
    "GSM 06.10, 8 kHz": Codec("WAV", "GSM610", sample_rate=8000),
}


def through_codec(wave: Tensor, sample_rate: int, codec: Codec) -> Tensor:
    """(N,) encoded and decoded again, of the same length; what is outside [-1, 1] is clipped, as in any file."""
    import soundfile

    rate = codec.sample_rate or sample_rate
    sent = resampled(wave, sample_rate, rate).clamp(-1, 1)
    file = io.BytesIO()
    options: dict[str, Any] = {} if codec.compression is None else {"compression_level": codec.compression}
    if codec.container == "MP3":
        options["bitrate_mode"] = "CONSTANT"
    soundfile.write(file, sent.numpy(), rate, format=codec.container, subtype=codec.subtype, **options)
    file.seek(0)
    decoded = torch.from_numpy(soundfile.read(file, dtype="float32")[0])
    return _of_length(resampled(decoded, rate, sample_rate), len(wave))


def band_limited(wave: Tensor, sample_rate: int, low: float, high: float) -> Tensor:
    """(N,) with nothing below `low` or above `high` Hz."""
    spectrum = torch.fft.rfft(wave)
    hertz = torch.fft.rfftfreq(len(wave), 1 / sample_rate)
    limited: Tensor = torch.fft.irfft(spectrum * ((hertz >= low) & (hertz <= high)), n=len(wave))
    return limited


def clipped_level(wave: Tensor, gain_db: float) -> Tensor:
    """(N,) louder by `gain_db` decibels, clipped at full scale as a recorder does."""
    return change_level(wave, gain_db).clamp(-1, 1)


def _of_length(wave: Tensor, length: int) -> Tensor:
    """Cut, or filled with zeros: codecs work in blocks."""
    return torch.nn.functional.pad(wave[:length], (0, max(0, length - len(wave))))
