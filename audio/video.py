"""The pictures of a video file, read with PyAV: one a frame of sound, cut out and small, each as seen at that time.

Sound and video share a clock: that of the first sample, in one file or in two. A picture is seen until the next one
comes; a video may begin and end `SLACK_S` within its sound, as containers round both.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from undertone.audio.containers import HEAD, container_kind
from undertone.audio.read import AudioError

if TYPE_CHECKING:
    from torch import Tensor

HOP_S = 0.04  # between pictures, as between the frames of the upstream `waveform`
SIZE = 96  # pixels of a picture, each way
SLACK_S = 0.25
_BOX = ("time", "left", "top", "width", "height")
_Stamp = tuple[str, int, int]  # a file as it is now: its path, bytes, and time of modification in ns


def find_video(path: str | os.PathLike[str], video: str | None) -> str | None:
    """The file with a clip's pictures: the one that is named, or the audio file where that is a video; None: neither.

    Raises:
        AudioError: PyAV, which looks into a container, is not installed; the container is damaged; or the file that is
            named has no video.
    """
    if video is not None:
        _check(_stamp(video))
        return video
    return str(path) if _has_pictures(_stamp(path)) else None


def content_key(path: str) -> str:
    """Hex XXH3 of a file's bytes, read once while its size and time of modification stay."""
    return _digest(_stamp(path))


def read_pictures(path: str, times: np.ndarray, boxes: str | None = None) -> Tensor:
    """What is seen at some times.

    Args:
        path: a video file.
        times: (T,) seconds after the first sample of the sound, rising.
        boxes: a CSV of `time` (seconds), `left`, `top`, `width`, `height` (pixels), the face of the nearest time is
            cut out; None: the largest square in the middle.

    Returns:
        (T, SIZE, SIZE, 3) uint8, red green blue; what is cut out is resized with antialiasing, whatever its shape.

    Raises:
        AudioError: there is no video in the file, PyAV is not installed, the file is damaged, begins later or ends
            earlier than `times`, or a box is not inside its picture.
    """
    import torch

    table = None if boxes is None else _read_boxes(_stamp(boxes))
    found: list[Tensor] = []
    with _opened(path) as (container, stream):
        audio = container.streams.audio
        origin = float(audio[0].start_time * audio[0].time_base) if audio and audio[0].start_time else 0.0
        container.seek(max(0, int((times[0] + origin) / stream.time_base)), stream=stream)  # the key frame before it
        length = float(1 / stream.average_rate) if stream.average_rate else 0.0
        current: Any = None
        begins = 0.0  # of the current frame
        for frame in container.decode(stream):
            if frame.pts is None:
                continue
            time = float(frame.pts * stream.time_base) - origin
            if current is None and time > times[0] + SLACK_S:
                raise AudioError(path, f"its video begins at {time:.2f} s, later than the sound at {times[0]:.2f} s.")
            if current is not None and times[len(found)] < time:
                last = int(np.searchsorted(times, time))
                found += _seen(path, current, times[len(found) : last], table)
                if len(found) == len(times):
                    return torch.stack(found)  # (T, SIZE, SIZE, 3)
            current, begins = frame, time
        if current is None:
            raise AudioError(path, f"its video has no picture at {times[0]:.2f} s.")
        if times[-1] > begins + length + SLACK_S:
            raise AudioError(
                path,
                f"its video ends at {begins + length:.2f} s, earlier than the sound, which is needed to "
                f"{times[-1]:.2f} s. Give `end` in a table, or cut the sound.",
            )
        found += _seen(path, current, times[len(found) :], table)
    return torch.stack(found)  # (T, SIZE, SIZE, 3)


def _seen(path: str, frame: Any, times: np.ndarray, table: np.ndarray | None) -> list[Tensor]:
    """One frame at several times, (SIZE, SIZE, 3) each; made once for each box."""
    import torch
    from torch.nn.functional import interpolate

    picture = torch.from_numpy(frame.to_ndarray(format="rgb24"))  # (H, W, 3)
    height, width, _ = picture.shape
    made: dict[tuple[int, ...], Tensor] = {}
    found = []
    for time in times:
        if table is None:
            side = min(height, width)
            box = ((width - side) // 2, (height - side) // 2, side, side)
        else:
            box = tuple(map(round, table[np.abs(table[:, 0] - time).argmin(), 1:].tolist()))
        left, top, wide, high = box
        if box not in made:
            if left < 0 or top < 0 or wide < 1 or high < 1 or left + wide > width or top + high > height:
                raise AudioError(
                    path,
                    f"the box at {time:.2f} s (left {left}, top {top}, width {wide}, height {high}) is not inside its "
                    f"pictures of {width} x {height} pixels. Correct the table of boxes.",
                )
            cut = picture[top : top + high, left : left + wide].permute(2, 0, 1)[None].float()  # (1, 3, h, w)
            small = interpolate(cut, (SIZE, SIZE), mode="bilinear", antialias=True)[0]  # (3, SIZE, SIZE)
            made[box] = small.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0)  # (SIZE, SIZE, 3)
        found.append(made[box])
    return found


@lru_cache(maxsize=1024)
def _read_boxes(stamp: _Stamp) -> np.ndarray:
    """(R, 5): time, left, top, width, height."""
    path = stamp[0]
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
        found = np.array([[float(row[name]) for name in _BOX] for row in rows])
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise AudioError(path, f"no table of boxes ({error}): a CSV of {', '.join(_BOX)} is expected.") from error
    if not len(found) or not np.isfinite(found).all():
        raise AudioError(path, "no table of boxes: it needs a row, and a number in each cell.")
    return found


def _stamp(path: str | os.PathLike[str]) -> _Stamp:
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise AudioError(path, "no such file.") from error
    return str(path), status.st_size, status.st_mtime_ns


@lru_cache(maxsize=65536)
def _has_pictures(stamp: _Stamp) -> bool:
    with open(stamp[0], "rb") as file:
        if container_kind(file.read(HEAD)) is None:
            return False
    with _container(stamp[0]) as container:
        return _video_of(container) is not None


@lru_cache(maxsize=65536)
def _check(stamp: _Stamp) -> None:
    with _opened(stamp[0]):
        pass


@lru_cache(maxsize=65536)
def _digest(stamp: _Stamp) -> str:
    digest = xxhash.xxh3_128()
    with Path(stamp[0]).open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def _container(path: str) -> Iterator[Any]:
    try:
        import av
    except ImportError as error:
        raise AudioError(path, "its pictures are read with PyAV: pip install 'undertone[av]'.") from error
    try:
        with av.open(path) as container:
            yield container
    except av.FFmpegError as error:
        raise AudioError(path, f"not readable as a video, or damaged: {error.strerror}.") from error


@contextmanager
def _opened(path: str) -> Iterator[tuple[Any, Any]]:
    """A container and its video."""
    with _container(path) as container:
        stream = _video_of(container)
        if stream is None:
            raise AudioError(path, "there is no video in the file.")
        yield container, stream


def _video_of(container: Any) -> Any:
    """The first video; the cover of an album is none."""
    from av.stream import Disposition

    return next((one for one in container.streams.video if not one.disposition & Disposition.attached_pic), None)
