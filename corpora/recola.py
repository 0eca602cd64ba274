"""RECOLA: 23 French speakers in remote collaboration, arousal and valence over time by 6 raters.

`RECOLA-Audio-recordings/P16.wav`, and `RECOLA-Annotation/emotional_behaviour/{arousal,valence}/P16.csv` with `;`
between `time` and the raters FM1 FM2 FM3 FF1 FF2 FF3, -1..1, every 40 ms of the first 5 minutes. What is not annotated
is left out. There are no emotions: train the tasks `series.arousal` and `series.valence` (head=frames). Where
`RECOLA-Video-recordings/P16.mp4` is there too, it is the video for a model that looks at pictures.

Target is the plain mean of the raters at each time (the challenges' gold standards weight and shift them, and are not
part of the release). It is written as a table of time, arousal and valence into `cache`, under the hash of its content:
nothing is written into the corpus. A recording is cut into utterances of `segment` seconds, whose annotation goes with
them; scores are of all times together, so that the cuts change what a model sees at once, not what is scored.

The speakers make five groups: the challenges' 9 / 9 / 9 are not part of the release, and the files do not say
their gender. Two speakers talk to each other, each with a microphone of their own; which two is not read. Written from
published code, not confirmed on the release.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from undertone.common.files import atomic_path
from undertone.corpora.corpus import Corpus, find_audio

AXES = ("arousal", "valence")
TIME = "time"
LONGEST = 86_400.0  # seconds


class Recola(Corpus):
    """RECOLA; arousal and valence over time; five groups of speakers."""

    name = "recola"
    licence = "licence form (EULA), for research"
    url = "https://diuf.unifr.ch/main/diva/recola"
    citation = (
        "F. Ringeval, A. Sonderegger, J. Sauer, D. Lalanne: Introducing the RECOLA multimodal corpus of remote "
        "collaborative and affective interactions. EmoSPACE, FG 2013."
    )
    language = "French"
    num_clips = 23
    num_speakers = 23
    pitfalls = "A loader drops one of the six raters."
    default_protocol = "groups"

    def __init__(self, *, segment: float = 30.0, cache: str = "~/.cache/undertone/series") -> None:
        """Choose the length of an utterance.

        Args:
            segment: seconds.
            cache: folder for the tables of mean annotations.
        """
        if not isinstance(segment, int | float) or not segment > 0:
            raise ValueError(f"recola has no segment={segment}. Give seconds, for example corpus.segment=30.")
        self.segment, self.cache = float(segment), Path(cache).expanduser()
        self.variant = f"utterances of {segment:g} s"

    def rows(self, root: Path) -> Iterator[dict[str, Any]]:
        for path, _ in find_audio(root, r"P\d+", "RECOLA-Audio-recordings/P16.wav", self):
            tables = {axis: _read(_table(root, axis, path.stem)) for axis in AXES}
            times = sorted(set.intersection(*map(set, tables.values())))
            if len(times) < 2:
                raise ValueError(f"recola: the annotations of {path.stem} have no two times in common.")
            lines = [f"{time!r},{','.join(f'{tables[axis][time]:.6g}' for axis in AXES)}" for time in times]
            text = "\n".join([",".join((TIME, *AXES)), *lines, ""])
            series = self.cache / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.csv"
            if not series.is_file():
                with atomic_path(series) as draft:
                    draft.write_text(text, "utf-8")
            video = _video(root, path.stem)
            num_segments = max(1, round(times[-1] / self.segment))
            for number in range(num_segments):
                last = number == num_segments - 1
                yield {
                    "id": f"{path.stem}_{number:03d}",
                    "path": path,
                    "start": number * self.segment,
                    "end": times[-1] if last else (number + 1) * self.segment,
                    "speaker": path.stem,
                    "series": str(series),
                    "video": video,
                }


def _table(root: Path, axis: str, stem: str) -> Path:
    for folder in (root, root.parent):
        if found := sorted(folder.rglob(f"emotional_behaviour/{axis}/{stem}.csv")):
            return found[0]
    raise ValueError(
        f"recola: no emotional_behaviour/{axis}/{stem}.csv under {root} or beside it. "
        f"Give --root the folder with RECOLA-Audio-recordings and RECOLA-Annotation."
    )


def _video(root: Path, stem: str) -> str | None:
    for folder in (root, root.parent):
        if found := sorted(folder.rglob(f"RECOLA-Video-recordings/{stem}.*")):
            return str(found[0])
    return None


def _read(path: Path) -> dict[float, float]:
    """{time in seconds: mean of the raters}."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file, delimiter=";") if row]
    except csv.Error as error:
        raise ValueError(f"Cannot read the annotations {path}: {error}. Get them again.") from error
    if not rows or rows[0][0].lower() != TIME or len(rows[0]) < 2:
        raise ValueError(f"{path}: expected a header of time and raters, separated by ;, got {rows[:1]}.")
    means = {}
    for number, row in enumerate(rows[1:], 2):
        try:
            time, *values = (float(cell) for cell in row if cell)
            if not 0 <= time <= LONGEST:
                raise ValueError(f"{time} s is no time of a recording")
            means[time] = sum(values) / len(values)
        except (ValueError, ZeroDivisionError) as error:
            raise ValueError(f"{path}, line {number}: expected a time and the raters' values; got {row}.") from error
    return means
