"""MELD: 13,708 utterances of the English television series Friends, 7 emotions; speaker-dependent official split.

`train_splits/dia0_utt0.mp4`, `dev_splits_complete/` and `output_repeated_splits_test/`, each with its table
`train_sent_emo.csv`, `dev_sent_emo.csv` and `test_sent_emo.csv`; all under the root. The names repeat in the three
folders, so an id is `train_dia0_utt0`. Audio is read, not video: extract it beside each clip, under the same stem
(`for f in *.mp4; do ffmpeg -i $f -ac 1 -ar 16000 ${f%.mp4}.wav; done`).

95.8 % of the test utterances are by speakers of the training part, 82.6 % by the six leads (measured on the tables):
the protocol `split`, the default, is labelled speaker-dependent. `protocol=groups` keeps speakers apart. Speakers are
those of the tables, also such as All; the corpus does not say their gender. joy, surprise, ... become happy,
surprised, ...

Left out, and counted in the notes: `dia125_utt3` of train (broken) and `dia110_utt7` of dev (missing); `dia38_utt4` and
`dia220_utt0` of test, which last 305 and 235 s and hold minutes of other speech. The `final_videos_test*` in the test
folder are none of its clips. Written from published code and the tables, not confirmed on the clips.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from undertone.corpora.corpus import Corpus, find_audio, other_names, read_rows
from undertone.corpora.folds import Fold
from undertone.corpora.manifest import Manifest

EMOTIONS = {
    "neutral": "neutral",
    "joy": "happy",
    "surprise": "surprised",
    "anger": "angry",
    "sadness": "sad",
    "disgust": "disgusted",
    "fear": "fearful",
}
PARTS = {
    "train": ("train_splits", "train_sent_emo.csv"),
    "dev": ("dev_splits_complete", "dev_sent_emo.csv"),
    "test": ("output_repeated_splits_test", "test_sent_emo.csv"),
}
LEFT_OUT = ("train_dia125_utt3", "dev_dia110_utt7", "test_dia38_utt4", "test_dia220_utt0")

_COLUMNS = ("Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID", "Season", "Episode")
_EXAMPLE = "train_splits/dia0_utt0.wav"


class Meld(Corpus):
    """MELD; the official split, which is speaker-dependent."""

    name = "meld"
    licence = "GPL 3.0 (the repository's; the clips are of a television series)"
    url = "https://github.com/declare-lab/MELD"
    citation = (
        "S. Poria, D. Hazarika, N. Majumder, G. Naik, E. Cambria, R. Mihalcea: MELD: A Multimodal Multi-Party Dataset "
        "for Emotion Recognition in Conversations. ACL 2019, 527-536."
    )
    language = "English"
    pitfalls = (
        "95.8 % of test is by training speakers. Two clips are broken or missing, two of test "
        "last minutes, and the test folder holds clips of no row."
    )
    expected = {
        "emotion": dict(neutral=6436, happy=2308, surprised=1636, angry=1607, sad=1002, disgusted=361, fearful=358),
        "split": dict(train=9989, dev=1109, test=2610),
    }
    default_protocol = "split"

    def rows(self, root: Path) -> Iterator[dict[str, Any]]:
        rows = [row for part in PARTS for row in self._part(root, part)]
        left_out = [row for row in rows if row["id"] in LEFT_OUT]
        if left_out:
            self.expected = {
                column: dict(Counter(counts) - Counter(row[column] for row in left_out))
                for column, counts in Meld.expected.items()
            }
            names = ", ".join(row["id"] for row in left_out)
            self.notes = [*self.notes, f"{len(left_out)} clips that are broken or last minutes are left out: {names}."]
        yield from (row for row in rows if row["id"] not in LEFT_OUT)

    def _part(self, root: Path, part: str) -> list[dict[str, Any]]:
        """The rows of train, dev or test."""
        folder_name, table_name = PARTS[part]
        folder = next((path for path in sorted(root.rglob(folder_name)) if path.is_dir()), root / folder_name)
        table = next(iter(sorted(root.rglob(table_name))), None)
        if table is None:
            raise ValueError(f"meld: no {table_name} under {root}; it is in the repository, {self.url}.")
        files = {path.stem: path for path, _ in find_audio(folder, r"dia\d+_utt\d+", _EXAMPLE, self)}
        strays = other_names(folder, list(files.values()), _EXAMPLE)
        self.notes = [*(self.notes if part != "train" else ()), *strays]
        rows = []
        for number, row in read_rows(table, _COLUMNS):
            dialogue, utterance = row["Dialogue_ID"], row["Utterance_ID"]
            if row["Emotion"] not in EMOTIONS or not (dialogue.isdecimal() and utterance.isdecimal()):
                raise ValueError(
                    f"{table}, line {number}: expected an Emotion of {', '.join(EMOTIONS)} and the numbers Dialogue_ID "
                    f"and Utterance_ID; got {row['Emotion']!r}, {dialogue!r} and {utterance!r}."
                )
            stem = f"dia{dialogue}_utt{utterance}"
            rows.append(
                {
                    "id": f"{part}_{stem}",
                    "path": files.get(stem, folder / f"{stem}.wav"),  # a missing file is skipped, with this path
                    "speaker": row["Speaker"],
                    "emotion": EMOTIONS[row["Emotion"]],
                    "split": part,
                    "text": row["Utterance"],
                    "extra": {
                        "sentiment": row["Sentiment"],
                        "dialogue": f"{part}{dialogue}",
                        "season": f"s{row['Season']}",
                        "episode": f"s{row['Season']}e{row['Episode']}",
                    },
                }
            )
        return rows

    def folds(
        self, manifest: Manifest, protocol: str | None = None, num_folds: int | None = None, seed: int = 0
    ) -> list[Fold]:
        """See `Corpus.folds`; the official split says that it is speaker-dependent."""
        folds = super().folds(manifest, protocol, num_folds, seed)
        if self.protocol_used(manifest, protocol, num_folds) != "split":
            return folds
        return [replace(fold, speaker_independent=False, dev_shares_speakers=True) for fold in folds]
