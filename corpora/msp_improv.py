"""MSP-IMPROV: 8,438 turns of English dialogues, 6 sessions of a woman and a man each, 4 emotions and 3 dimensions.

`session1/S01A/P/MSP-IMPROV-S01A-F01-P-FM01.wav` = sentence 01 with the target emotion A (A H S N), speaker F01, kind of
turn, listener and number. Kinds: P natural, between the takes; R the target sentence read; S improvised; T the
improvised turn with the target sentence (the extra column `kind`). The labels are in `Evalution.txt` (sic; a copy
spells it `Evaluation.txt`), which names the turns UTD- where the files say MSP-.

`labels`, the agreement of the raters:
    `4class`  angry, happy, neutral, sad
    `all`     also other (O), and the turns without an agreement (X; no emotion)
Turns with another label are left out. A is activation (arousal), V valence, D dominance, 1-5, and become 0..1,
(x - 1) / 4; NaN is none. Votes are the raters' single words. The target emotion is the extra column `target`.

The protocol leaves out one session, which has speakers of its own; gender is the speaker's letter. Written from
published code, not confirmed on the release; the counts are those that papers give for the four classes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from undertone.corpora.corpus import Corpus, beside, check_choice, find_audio, fraction_of_scale

EMOTIONS = {"A": "angry", "H": "happy", "S": "sad", "N": "neutral", "O": "other", "X": None}
CODES = {"4class": "AHSN", "all": "AHSNOX"}
KINDS = {"P": "natural", "R": "read target", "S": "improvised", "T": "improvised target"}
TABLES = ("Evalution.txt", "Evaluation.txt")

_TURN = (
    r"MSP-IMPROV-S(?P<text>\d\d)(?P<target>[AHSN])-"
    r"(?P<speaker>(?P<letter>[FM])0(?P<session>[1-6]))-(?P<kind>[PRST])-\w+"
)
_NUMBER = r"(\d+(?:\.\d*)?|NaN)"
_LINE = re.compile(rf"UTD-(IMPROV-[\w-]+)\.avi; *([A-Z]); *A:{_NUMBER} *; *V:{_NUMBER} *; *D:{_NUMBER} *; *N:.*")
_VOTE = re.compile(r"[^;]+; *(\w[^;]*);.*A:.*V:.*D:.*")


class MspImprov(Corpus):
    """MSP-IMPROV; 4 or all labels; leave-one-session-out."""

    name = "msp_improv"
    licence = "UTD academic licence"
    url = "https://ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Improv.html"
    citation = (
        "C. Busso, S. Parthasarathy, A. Burmania, M. AbdelWahab, N. Sadoughi, E. Mower Provost: MSP-IMPROV: An acted "
        "corpus of dyadic interactions to study emotion perception. "
        "IEEE Transactions on Affective Computing 8(1), 67-80, 2017."
    )
    language = "English"
    num_clips = 8438
    num_speakers = 12
    pitfalls = (
        "A loader reads activation as valence and valence as activation (the order is A, V, D); the table's name is "
        "spelt two ways, and its UTD- is the files' MSP-."
    )
    default_protocol = "session"

    def __init__(self, *, labels: str = "4class") -> None:
        """Choose the turns.

        Args:
            labels: `4class` or `all`.
        """
        check_choice(self.name, "labels", labels, tuple(CODES))
        self.labels = labels
        self.variant = "4 emotions" if labels == "4class" else "all emotions"
        self.expected = {"emotion": dict(angry=792, happy=2644, sad=885, neutral=3477)} if labels == "4class" else {}

    def rows(self, root: Path) -> Iterator[dict[str, Any]]:
        example = "session1/S01A/P/MSP-IMPROV-S01A-F01-P-FM01.wav"
        files = {path.stem: path for path, _ in find_audio(root, _TURN, example, self)}
        labels = _read(root)
        strays = sorted(set(files) - set(labels))
        self.notes = [f"{len(strays)} files such as {strays[0]} have no label and are left out."] if strays else []
        for turn, (name, code, means, votes) in sorted(labels.items()):
            if code in CODES[self.labels]:
                yield {
                    "id": turn,
                    "path": files.get(turn, root / f"{turn}.wav"),  # a missing file is skipped, with this path
                    "speaker": name["speaker"],
                    "gender": "female" if name["letter"] == "F" else "male",
                    "session": name["session"],
                    "emotion": EMOTIONS[code],
                    "votes": dict(votes),
                    "text": name["text"] + name["target"] if name["kind"] in "RT" else None,
                    **means,
                    "extra": {"kind": KINDS[name["kind"]], "target": EMOTIONS[name["target"]]},
                }


_Label = tuple[re.Match[str], str, dict[str, float | None], Counter[str]]


def _read(root: Path) -> dict[str, _Label]:
    """{turn: (its name matched, code, dimensions 0..1, votes)} of the table."""
    if (path := beside(root, *TABLES)) is None:
        raise ValueError(f"msp_improv: no {TABLES[0]} in {root} or beside it. Give --root the folder of the release.")
    labels: dict[str, _Label] = {}
    votes: Counter[str] = Counter()
    for number, line in enumerate(path.read_text("latin-1").splitlines(), 1):
        if line.startswith("UTD-"):
            match = _LINE.match(line)
            name = re.fullmatch(_TURN, f"MSP-{match[1]}") if match else None
            if match is None or name is None or match[2] not in EMOTIONS:
                raise ValueError(f"{path}, line {number}: expected UTD-turn.avi; label; A:; V:; D:; N:; got {line!r}.")
            values = zip(("arousal", "valence", "dominance"), map(float, match.groups()[2:]), strict=True)
            means = {axis: fraction_of_scale(mean, 1, 5) for axis, mean in values}
            votes = Counter()
            labels[f"MSP-{match[1]}"] = name, match[2], means, votes
        elif vote := _VOTE.match(line):
            votes[vote[1].strip().lower()] += 1
    return labels
