"""Audio that libsndfile does not read (m4a, mp4, webm, aac, ...; also a video's), through PyAV, or ffmpeg where it is.

Such a file is decoded once, block by block, into a file of float32 samples in the folder of temporary files, which is
then read as every other file is: spans, channels and long files cost what they cost anywhere. The kind is told from the
content. PyAV is the extra `undertone[av]`.
"""

from __future__ import annotations

import atexit
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import soundfile

from undertone.audio.kept import Kept

SUFFIXES = tuple(".m4a .m4b .aac .mp4 .m4v .mov .webm .mkv .mka .avi .3gp .amr .wma .wmv .flv".split())
"""Endings of such files."""

KEPT_BYTES = 2 * 2**30  # of decoded files that are kept for further reading; the last one is kept whatever its size
TRUNCATED_S = 1.0  # how much shorter than its header says a file may be
_NO_LENGTH = ("aac", "amr")  # formats whose length is guessed from the first frames
HEAD = 16  # bytes that tell the kind


def container_kind(start: bytes) -> str | None:
    """What a file is whose first `HEAD` bytes these are; None: nothing that is read here."""
    if start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free"):
        return "an MP4 file (m4a, mp4, mov, 3gp)"
    if start[:4] == b"RIFF" and start[8:12] == b"AVI ":
        return "an AVI video"
    kinds = {
        b"\x1a\x45\xdf\xa3": "a Matroska file (webm, mkv)",
        b"\xff\xf1": "an AAC file",
        b"\xff\xf9": "an AAC file",
        b"#!AMR": "an AMR file",
        b"\x30\x26\xb2\x75": "a Windows Media file",
        b"FLV\x01": "a Flash video",
    }
    return next((kind for magic, kind in kinds.items() if start.startswith(magic)), None)


class Undecodable(Exception):
    """Why a container cannot be decoded."""


def open_decoded(path: Path, kind: str) -> soundfile.SoundFile:
    """The decoded audio of a container, all channels at its own rate, float32.

    Raises:
        Undecodable: there is neither PyAV nor ffmpeg, no audio in the file, or it is damaged.
        OSError: there is no room for the decoded samples.
    """
    return _DECODED.get(path, lambda: _decoded(path, kind), soundfile.SoundFile)


_DECODED: Kept[Path] = Kept(KEPT_BYTES, lambda file: file.stat().st_size, Path.unlink)  # an open one goes on being read


def _decoded(path: Path, kind: str) -> Path:
    """A new file with the audio of `path`."""
    out = _folder(os.getpid()) / f"{uuid4().hex}.w64"
    try:
        _decode(path, kind, out)
    except BaseException:
        out.unlink(missing_ok=True)
        raise
    return out


@lru_cache(maxsize=1)
def _folder(process: int) -> Path:
    """A folder of temporary files that goes with the process."""
    folder = Path(tempfile.mkdtemp(prefix="undertone-"))
    atexit.register(_remove, folder, process)
    return folder


def _remove(folder: Path, process: int) -> None:
    if os.getpid() == process:  # and not in one that it forked
        shutil.rmtree(folder, ignore_errors=True)


def _decode(path: Path, kind: str, out: Path) -> None:
    """Write the first audio track of `path` to `out`."""
    try:
        import av  # noqa: F401
    except ImportError:
        if (program := shutil.which("ffmpeg")) is None:
            raise Undecodable(
                f"this is {kind}, which needs PyAV: pip install 'undertone[av]'. Or convert it: "
                f"ffmpeg -i {shlex.quote(path.name)} {shlex.quote(path.stem)}.wav"
            ) from None
        _with_ffmpeg(program, path, kind, out)
    else:
        _with_av(path, kind, out)


def _with_av(path: Path, kind: str, out: Path) -> None:
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise Undecodable(f"this is {kind} without audio.")
            stream = container.streams.audio[0]
            resampler = av.AudioResampler(format="fltp")  # keeps rate and channels
            file: soundfile.SoundFile | None = None
            try:
                for frame in container.decode(stream):
                    for block in resampler.resample(frame):
                        samples = block.to_ndarray().T  # (n, channels)
                        if file is None:
                            layout = block.layout.nb_channels
                            file = soundfile.SoundFile(out, "w", block.sample_rate, layout, "FLOAT", format="W64")
                        file.write(samples)
                seconds = file.frames / file.samplerate if file is not None else 0.0
            finally:
                if file is not None:
                    file.close()
            claimed = 0.0 if container.format.name in _NO_LENGTH else _claimed_seconds(stream)
    except av.FFmpegError as error:
        raise Undecodable(f"{kind}, damaged or cut off: {error.strerror}.") from error
    if not seconds:
        raise Undecodable("the file holds no samples.")
    if seconds < claimed - TRUNCATED_S:
        raise Undecodable(f"truncated: decoding stopped at {seconds:.1f} s of {claimed:.1f} s.")


def _claimed_seconds(stream: Any) -> float:
    """How long the file says that its audio is; 0 where it does not, as browsers leave it."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if found := re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", "")):  # Matroska
        return 3600 * int(found[1]) + 60 * int(found[2]) + float(found[3])
    return 0.0


def _with_ffmpeg(program: str, path: Path, kind: str, out: Path) -> None:
    words = "-nostdin -v error -xerror -i".split() + [f"file:{path}"] + "-map 0:a:0 -c:a pcm_f32le -f w64".split()
    done = subprocess.run([program, *words, str(out)], capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise Undecodable(f"{kind}, which ffmpeg could not decode: {reason}.")
