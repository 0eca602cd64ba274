"""ESD, the emotional speech database: 35,000 read utterances, 10 Mandarin and 10 English speakers, 5 emotions.

`0011/Angry/0011_000351.wav`, 16 kHz; some copies divide each folder into train, evaluation and test, which share all
speakers and are not read as a split. The emotion is the folder's name, Angry Happy Neutral Sad Surprise, or else that
of the speaker's table `0011/0011.txt` (file, sentence, emotion), whose encodings (UTF-8, UTF-16, GB 2312, Latin-1) and
languages (also 中立 快乐 伤心 生气 惊喜) are mixed. The sentence, from there as well, is the text.

`language` is `english`, `mandarin` or `both`, and the extra column of that name. Genders follow the list of the
release: women 0001 0002 0003 0007 0009 and 0015 to 0019.

Protocol `pairs`, the default: five folds; each tests a woman and a man of each language, the n-th ones, that is 4
speakers with `both`, 2 else. It is fixed, and dev is the next fold's test part. EmoBox also has five folds of 4
speakers; its members differ. Written from published code, not confirmed on the release.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from undertone.corpora.corpus import Corpus, check_choice, find_audio, other_names
from undertone.corpora.folds import Fold, rotate_units
from undertone.corpora.manifest import Manifest

EMOTIONS = {"angry": "angry", "happy": "happy", "neutral": "neutral", "sad": "sad", "surprise": "surprised"}
EMOTIONS |= {"生气": "angry", "快乐": "happy", "中立": "neutral", "伤心": "sad", "惊喜": "surprised"}
SPEAKERS = {
    "mandarin": {"female": ("0001", "0002", "0003", "0007", "0009"), "male": ("0004", "0005", "0006", "0008", "0010")},
    "english": {"female": ("0015", "0016", "0017", "0018", "0019"), "male": ("0011", "0012", "0013", "0014", "0020")},
}

_FACTS = {
    speaker: (language, gender, number)
    for language, genders in SPEAKERS.items()
    for gender, speakers in genders.items()
    for number, speaker in enumerate(speakers, 1)
}  # {speaker: language, gender, fold}
_STEM = r"(?P<speaker>00(?:0[1-9]|1\d|20))_\d{6}"
_EXAMPLE = "0011/Angry/0011_000351.wav"


class Esd(Corpus):
    """ESD; English, Mandarin or both; five folds of a woman and a man of each language."""

    name = "esd"
    licence = "licence form of the National University of Singapore, for research"
    url = "https://hltsingapore.github.io/ESD"
    citation = (
        "K. Zhou, B. Sisman, R. Liu, H. Li: Emotional voice conversion: Theory, databases and ESD. "
        "Speech Communication 137, 1-18, 2022."
    )
    hours = 29
    pitfalls = "Its folders train, evaluation and test share all speakers. Tables read in one encoding lose sentences."
    default_protocol = "pairs"
    own_protocols = ("pairs",)

    def __init__(self, *, language: str = "both") -> None:
        """Choose the speakers.

        Args:
            language: `english`, `mandarin` or `both`.
        """
        check_choice(self.name, "language", language, (*SPEAKERS, "both"))
        self.languages = tuple(SPEAKERS) if language == "both" else (language,)
        self.language = " and ".join(name.capitalize() for name in self.languages)
        self.variant = self.language
        speakers = [name for name, facts in _FACTS.items() if facts[0] in self.languages]
        self.expected = {
            "emotion": {emotion: 350 * len(speakers) for emotion in sorted(set(EMOTIONS.values()))},
            "speaker": dict.fromkeys(sorted(speakers), 1750),
        }

    def rows(self, root: Path) -> Iterator[dict[str, Any]]:
        files = find_audio(root, _STEM, _EXAMPLE, self)
        lines = _read_tables(root)
        others = 0
        for path, match in files:
            speaker = match["speaker"]
            language, gender, _ = _FACTS[speaker]
            if language not in self.languages:
                continue
            text, label = lines.get(path.stem, (None, None))
            folders = path.relative_to(root).parts[:-1]
            emotion = next((EMOTIONS[name.lower()] for name in reversed(folders) if name.lower() in EMOTIONS), label)
            if emotion is None:
                raise ValueError(
                    f"esd: {path} stands in no folder of an emotion (Angry, ...), nor does {speaker}.txt name one. "
                    f"Keep the folders of the release."
                )
            others += label not in (None, emotion)
            yield {
                "id": path.stem,
                "path": path,
                "speaker": speaker,
                "gender": gender,
                "emotion": emotion,
                "text": text,
                "extra": {"language": language},
            }
        self.notes = [*other_names(root, [path for path, _ in files], _EXAMPLE)]
        if others:
            self.notes.append(f"{others} utterances have another emotion in their table; the folder's is taken.")

    def folds(
        self, manifest: Manifest, protocol: str | None = None, num_folds: int | None = None, seed: int = 0
    ) -> list[Fold]:
        """See `Corpus.folds`; `pairs` leaves out the n-th woman and man of each language."""
        if protocol not in (None, "pairs") or num_folds is not None:
            return super().folds(manifest, protocol or "groups", num_folds, seed)
        units: dict[int, list[str]] = {}
        for name, speaker in zip(manifest.ids, manifest.column("speaker"), strict=True):
            units.setdefault(_FACTS[speaker][2], []).append(name)
        return rotate_units({f"pair{number}": units[number] for number in sorted(units)}, manifest, seed)


def _read_tables(root: Path) -> dict[str, tuple[str, str | None]]:
    """{stem: (sentence, emotion)} of all speakers' tables; lines of another form hold neither and are passed over."""
    lines = {}
    for speaker in _FACTS:
        for path in sorted(root.rglob(f"{speaker}.txt")):
            for line in _decoded(path).splitlines():
                cells = [cell.strip() for cell in line.split("\t")]
                if len(cells) == 3 and cells[0].startswith(f"{speaker}_"):
                    lines[cells[0]] = cells[1], EMOTIONS.get(cells[2].lower())
    return lines


def _decoded(path: Path) -> str:
    """The text in whichever of the release's encodings it is."""
    content = path.read_bytes()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", errors="replace")
    mandarin = _FACTS[path.stem][0] == "mandarin"
    for encoding in ("utf-8-sig", *(["gb18030"] if mandarin else [])):
        with suppress(UnicodeDecodeError):
            return content.decode(encoding)
    return content.decode("latin-1")
