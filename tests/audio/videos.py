"""Small video files whose pictures are known."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

RATE = 16_000


def write_video(
    path: Path,
    pictures: Sequence[Any],
    sound: np.ndarray | None = None,
    fps: int = 5,
    delay: float = 0.0,
    shape: tuple[int, int] = (48, 64),
) -> Path:
    """A container with flat pictures, each a grey level of 0..255 or (height, width, 3), and (N,) samples at 16 kHz.

    The pictures begin `delay` seconds after the sound.
    """
    import av

    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("mpeg4", rate=fps) if len(pictures) else None
        if video is not None:
            video.height, video.width = shape
            video.pix_fmt, video.bit_rate, video.gop_size = "yuv420p", 2_000_000, 3
        audio: Any = container.add_stream("aac", rate=RATE, layout="mono") if sound is not None else None
        for number, picture in enumerate(pictures):
            full = np.broadcast_to(np.asarray(picture, "u1"), (*shape, 3)) if np.ndim(picture) == 0 else picture
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(full), format="rgb24")
            frame.pts, frame.time_base = number + round(delay * fps), Fraction(1, fps)
            container.mux(video.encode(frame))
        if video is not None:
            container.mux(video.encode(None))
        if audio is not None:
            samples = av.AudioFrame.from_ndarray(np.asarray(sound, "f4")[None], format="fltp", layout="mono")
            samples.sample_rate, samples.pts = RATE, 0
            container.mux(audio.encode(samples))
            container.mux(audio.encode(None))
    return path
