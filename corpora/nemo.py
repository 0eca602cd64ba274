"""nEMO: 4,481 acted Polish utterances, 9 speakers, 90 sentences, 6 emotions.

`samples/WR0_surprised_64.wav`, 24 kHz, and `data.tsv` with file_id, emotion, raw_text, normalized_text, speaker_id,
gender and age; the root holds both. The table pads speaker ids with blanks, which are taken off. The age is an extra
column. Nothing is left out. Counts, speakers and genders are confirmed on the release (its audio as Ogg Opus).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from undertone.corpora.corpus import Corpus, beside, find_audio, read_rows

EMOTIONS = {
    "anger": "angry",
    "fear": "fearful",
    "happiness": "happy",
    "neutral": "neutral",
    "sadness": "sad",
    "surprised": "surprised",
}

_COLUMNS = ("file_id", "emotion", "raw_text", "speaker_id", "gender", "age")


class Nemo(Corpus):
    """nEMO as published; leave-one-speaker-out."""

    name = "nemo"
    licence = "CC BY-NC-SA 4.0"
    hub_licence = "cc-by-nc-sa-4.0"
    url = "https://github.com/amu-cai/nEMO"
    citation = "I. Christop: nEMO: Dataset of Emotional Speech in Polish. LREC-COLING 2024, 12111-12116."
    language = "Polish"
    hours = 3.07
    num_speakers = 9
    pitfalls = "Its table pads speaker ids with blanks, so that ids read as they are do not match the files'."
    expected = {"emotion": dict(angry=749, fearful=736, happy=749, neutral=809, sad=769, surprised=669)}
    default_protocol = "speaker"

    def rows(self, root: Path) -> Iterator[dict[str, Any]]:
        folder = root / "samples" if (root / "samples").is_dir() else root
        found = find_audio(folder, r"[A-Z]+\d_[a-z]+_\d+", "samples/WR0_surprised_64.wav", self)
        files = {path.stem: path for path, _ in found}
        if (table := beside(root, "data.tsv")) is None:
            raise ValueError(f"nemo: no data.tsv in {root} or beside it; it is in the repository, {self.url}.")
        named = set()
        for number, row in read_rows(table, _COLUMNS, delimiter="\t", quoted=False):
            if row["emotion"] not in EMOTIONS:
                raise ValueError(
                    f"{table}, line {number}: expected an emotion of {', '.join(EMOTIONS)}; got {row['emotion']!r}."
                )
            stem = Path(row["file_id"]).stem
            named.add(stem)
            yield {
                "id": stem,
                "path": files.get(stem, folder / f"{stem}.wav"),  # a missing file is skipped, with this path
                "speaker": row["speaker_id"],
                "gender": row["gender"],
                "emotion": EMOTIONS[row["emotion"]],
                "text": row["raw_text"],
                "extra": {"age": row["age"]},
            }
        strays = sorted(set(files) - named)
        self.notes = []
        if strays:
            self.notes = [f"{len(strays)} files such as {strays[0]} are not in data.tsv and are left out."]
