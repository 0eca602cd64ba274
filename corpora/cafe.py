"""CaFE: 936 acted Canadian French utterances, 12 speakers, 6 sentences, 7 emotions.

`01-C-1-1.wav` = actor, emotion (C colère angry, D disgusted, J joie happy, N neutral, P peur fearful, S surprised, T
tristesse sad), intensity (1 weak, 2 strong; the extra column `intensity`; neutral has weak only), sentence. Odd actors
are men, even ones women. The release comes at 48 and at 192 kHz under the same names: give --root one of the two.
Nothing is left out. Leave-one-speaker-out makes 12 folds. Codes and genders as two published tools read them, not
confirmed on the release.
"""

from typing import Any

from undertone.corpora._file_names import FileNameCorpus


class Cafe(FileNameCorpus):
    """CaFE; leave-one-speaker-out."""

    name = "cafe"
    licence = "CC BY-NC-SA 4.0"
    hub_licence = "cc-by-nc-sa-4.0"
    url = "https://zenodo.org/records/1478765"
    citation = (
        "P. Gournay, O. Lahaie, R. Lefebvre: A Canadian French emotional speech dataset. ACM MMSys 2018, 399-402."
    )
    language = "French"
    pitfalls = "S is surprised, not sad; T is sad."
    emotions = {
        "C": "angry",
        "D": "disgusted",
        "J": "happy",
        "N": "neutral",
        "P": "fearful",
        "S": "surprised",
        "T": "sad",
    }
    genders = {f"{actor:02d}": "male" if actor % 2 else "female" for actor in range(1, 13)}
    example = "01-C-1-1.wav"
    stem = r"(?P<speaker>0[1-9]|1[0-2])-(?P<emotion>[CDJNPST])-(?P<intensity>[12])-(?P<text>[1-6])"
    expected = {
        "emotion": {emotion: 72 if emotion == "neutral" else 144 for emotion in emotions.values()},
        "speaker": dict.fromkeys(genders, 78),
    }
    default_protocol = "speaker"

    def changes(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"extra": {"intensity": {"1": "weak", "2": "strong"}[row["extra"]["intensity"]]}}
