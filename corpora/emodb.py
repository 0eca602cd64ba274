"""EmoDB, the Berlin database of emotional speech: 535 acted German utterances, 10 speakers, 7 emotions.

`03a01Wa.wav` = speaker 03, sentence a01, emotion W (Wut), take a; 16 kHz mono. The folder `wav/` or its parent is the
root; FLAC copies are read too. If `erkennung.txt` is beside them, each utterance gets the scores of its listeners as
extra columns: `recognised` (fraction of 20 listeners who named the emotion) and `naturalness`, both 0..1. All files are
used. Emotions follow the letters W L E A F T N, genders the release's list of speakers (audb before 1.1.1 had some
wrong). The protocol `audb` is audb's division: test 12, 14, 15 and 16. The licence is CC0 according to audb and CC BY
4.0 according to Zenodo.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from undertone.corpora.corpus import Corpus, beside, find_audio

EMOTIONS = {"W": "angry", "L": "bored", "E": "disgusted", "A": "fearful", "F": "happy", "T": "sad", "N": "neutral"}
FEMALE = ("08", "09", "13", "14", "16")
MALE = ("03", "10", "11", "12", "15")

_STEM = r"(?P<speaker>\d\d)(?P<text>[ab]\d\d)(?P<emotion>[WLEAFTN])(?P<take>[a-z])"


class EmoDB(Corpus):
    """EmoDB as published; leave-one-speaker-out."""

    name = "emodb"
    licence = "CC0 1.0 (audb) or CC BY 4.0 (Zenodo)"
    hub_licence = "cc-by-4.0"
    url = "http://emodb.bilderbar.info"
    citation = (
        "F. Burkhardt, A. Paeschke, M. Rolfes, W. Sendlmeier, B. Weiss: "
        "A database of German emotional speech. Interspeech 2005, 1517-1520."
    )
    language = "German"
    hours = 0.41
    num_speakers = 10
    pitfalls = "A copy in wide use (audb before 1.1.1) has wrong genders. EmoBox' five folds share speakers."
    expected = {"emotion": dict(angry=127, bored=81, disgusted=46, fearful=69, happy=71, sad=62, neutral=79)}
    default_protocol = "speaker"
    own_protocols = ("audb",)
    splits = {"audb": {"test": ("12", "14", "15", "16")}}

    def rows(self, root: Path) -> Iterator[dict[str, Any]]:
        files = find_audio(root, _STEM, "03a01Wa.wav", self)
        scores = _listener_scores(root)
        for path, match in files:
            speaker = match["speaker"]
            if speaker not in FEMALE + MALE:
                raise ValueError(
                    f"emodb: {path} is by speaker {speaker}; EmoDB has {', '.join(sorted(FEMALE + MALE))}."
                )
            yield {
                "id": path.stem,
                "path": path,
                "speaker": speaker,
                "gender": "female" if speaker in FEMALE else "male",
                "emotion": EMOTIONS[match["emotion"]],
                "text": match["text"],
                "extra": scores.get(path.stem, {}),
            }


def _listener_scores(root: Path) -> dict[str, dict[str, float]]:
    """{stem: {recognised, naturalness}} from `erkennung.txt` (Latin-1, tabs, decimal comma, %), if present."""
    scores: dict[str, dict[str, float]] = {}
    if (path := beside(root, "erkennung.txt")) is None:
        return scores
    for number, line in enumerate(path.read_text("latin-1").splitlines()[1:], 2):
        cells = [cell.strip() for cell in line.split("\t")]  # strip() also removes the file's no-break spaces
        try:
            _, name, recognised, natural = cells
            fractions = [float(cell.replace(",", ".")) / 100 for cell in (recognised, natural)]
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: expected number, file, two percentages; got {line!r}.") from error
        scores[Path(name).stem] = dict(zip(("recognised", "naturalness"), fractions, strict=True))
    return scores
