"""A corpus of made-up speech, for trying things out and for tests: no download, the same everywhere.

Each of the emotions angry, happy, neutral, sad moves pitch level, pitch contour, speaking rate, energy and spectral
tilt at once. They overlap, every speaker shows them in a way of their own, and women and men differ, so that no one cue
tells them apart for a new speaker. What a model reaches here says that it works, and nothing about real speech.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from undertone.corpora.corpus import Corpus
from undertone.corpora.manifest import DIMENSIONS
from undertone.corpora.voice import SAMPLE_RATE, Prosody, Voice, speak
from undertone.files import draft_folder, remove_drafts

CACHE = Path("~/.cache/undertone/synthetic")

# pitch_st, slope_st, accent_st, rate, energy_db, tilt_db (see Prosody): means of each emotion; the last row: spread
_MEANS = {
    "angry": (3.0, -3.5, 2.5, 1.12, 4.0, -4.0),
    "happy": (3.5, 2.0, 3.5, 1.06, 2.0, -1.5),
    "neutral": (0.0, -1.5, 1.5, 1.0, 0.0, 0.0),
    "sad": (-0.5, -3.0, 0.8, 0.8, -3.5, 4.0),
}
_SPREAD = np.array([1.8, 1.3, 0.6, 0.08, 2.0, 1.8])
_SPEAKERS_WAY = 0.6  # spread of a speaker's way of showing an emotion, relative to that of the utterances

_DIMENSIONS = {
    "angry": (0.8, 0.2, 0.8),
    "happy": (0.7, 0.85, 0.6),
    "neutral": (0.4, 0.5, 0.5),
    "sad": (0.2, 0.25, 0.25),
}


class Synthetic(Corpus):
    """Women F1, F2, ... and men M1, M2, ... in turn; a pure function of its seed, one file at a time."""

    name = "synthetic"
    licence = "none needed: nobody's voice"
    url = "made on this computer, from its seed"
    citation = "none"
    default_protocol = "speaker"

    def __init__(self, *, seed: int = 0, num_speakers: int = 8, per_emotion: int = 8) -> None:
        """Describe the corpus; `rows` makes the sound.

        Args:
            seed: of everything, >= 0.
            num_speakers: >= 1; more speakers leave the first ones as they are.
            per_emotion: utterances of each speaker and emotion, >= 1.

        Raises:
            ValueError: a number is too small, or is no whole number.
        """
        whole = all(isinstance(number, int) for number in (seed, num_speakers, per_emotion))
        if not whole or seed < 0 or num_speakers < 1 or per_emotion < 1:
            raise ValueError(
                f"The synthetic corpus needs seed >= 0, num_speakers >= 1 and per_emotion >= 1; "
                f"got {seed}, {num_speakers} and {per_emotion}."
            )
        self.default_root = CACHE.expanduser()
        self.seed, self.num_speakers, self.per_emotion = seed, num_speakers, per_emotion
        self.expected = {"emotion": dict.fromkeys(_MEANS, num_speakers * per_emotion)}

    def rows(self, root: Path) -> Iterator[dict[str, Any]]:
        """See `Corpus.rows`; writes the sound that is not yet under `root`, which is made if need be."""
        folder = root / f"seed{self.seed}"
        folder.mkdir(parents=True, exist_ok=True)
        remove_drafts(folder)
        for number in range(self.num_speakers):
            gender = ("female", "male")[number % 2]
            speaker = f"{gender[0].upper()}{number // 2 + 1}"
            for order, emotion in enumerate(_MEANS):
                for take in range(self.per_emotion):
                    name = f"{speaker}_{emotion}_{take + 1:02d}"
                    rng = np.random.default_rng([self.seed, number, order, take])
                    scores = np.clip(_DIMENSIONS[emotion] + rng.normal(0, 0.07, 3), 0, 1)
                    path = folder / f"{name}.wav"
                    if not path.exists():
                        _write(path, speak(self._voice(number), self._prosody(number, order, rng), rng))
                    yield {
                        "id": name,
                        "path": path,
                        "speaker": speaker,
                        "gender": gender,
                        "emotion": emotion,
                        **dict(zip(DIMENSIONS, scores.tolist(), strict=True)),
                    }

    def _voice(self, number: int) -> Voice:
        """The voice of a speaker."""
        rng = np.random.default_rng([self.seed, number])
        woman = number % 2 == 0
        return Voice(
            pitch_hz=(205 if woman else 118) * 2 ** (rng.normal(0, 1.8) / 12),
            formant_scale=(1.17 if woman else 1.0) * rng.normal(1, 0.03),
            tilt_db=rng.normal(12, 2),
            rate_hz=rng.normal(4.6, 0.35),
            gain_db=rng.normal(0, 2.5),
            breath=rng.uniform(0.02, 0.1),
        )

    def _prosody(self, number: int, order: int, rng: np.random.Generator) -> Prosody:
        """One utterance of an emotion, in the speaker's way."""
        way = np.random.default_rng([self.seed, number, order]).normal(0, _SPEAKERS_WAY * _SPREAD)
        return Prosody(*(list(_MEANS.values())[order] + way + rng.normal(0, _SPREAD)).tolist())


def _write(path: Path, samples: np.ndarray) -> None:
    """Write a 16 bit wav beside its place and move it there, so that a file that is there is whole."""
    with draft_folder(path) as beside:
        soundfile.write(beside / path.name, samples, SAMPLE_RATE, format="WAV", subtype="PCM_16")
        os.replace(beside / path.name, path)
