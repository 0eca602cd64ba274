r"""eNTERFACE'05: about 1,290 elicited English utterances, 44 speakers, 5 sentences an emotion, 6 emotions.

`subject 1/anger/sentence 1/s1_an_1.avi` = speaker, emotion, sentence. All three are taken from the folders: the names
of the files are irregular (`s_3_an_1`, `s16_su_3avi`), and those of subject 11 say s12, so that by the file's name it
is mixed with subject 12. Audio is read, not video: extract it beside each clip, under the same stem
(`find . -name "*.avi" -exec sh -c 'ffmpeg -i "$1" -ac 1 -ar 16000 "${1%.avi}.wav"' _ {} \;`).

Subject 6 is not segmented and is left out, with any file in no such folder. The release has no list of genders, so none
is given. The speakers make five groups. Counts of clips differ between papers and are not checked; written from
published code, not confirmed on the release.
"""

from typing import Any

from undertone.corpora._file_names import FileNameCorpus


class Enterface05(FileNameCorpus):
    """eNTERFACE'05; five groups of speakers."""

    name = "enterface05"
    licence = "free for research"
    url = "http://www.enterface.net/enterface05"
    citation = (
        "O. Martin, I. Kotsia, B. Macq, I. Pitas: The eNTERFACE'05 audio-visual emotion database. "
        "ICDE Workshops 2006, 8."
    )
    language = "English"
    num_speakers = 43
    num_classes = 6
    pitfalls = (
        "The files of subject 11 are named s12: by the file's name two speakers are one, and clips overwrite each "
        "other. A loader takes `s` of `s_3_an_1` for a speaker."
    )
    emotions = {
        "anger": "angry",
        "disgust": "disgusted",
        "fear": "fearful",
        "happiness": "happy",
        "sadness": "sad",
        "surprise": "surprised",
    }
    example = "subject 1/anger/sentence 1/s1_an_1.wav"
    stem = rf"subject (?P<speaker>\d+)/(?P<emotion>{'|'.join(emotions)})/sentence (?P<text>[1-5])/[^.].*"
    parents = 3
    default_protocol = "groups"

    def changes(self, row: dict[str, Any]) -> dict[str, Any]:
        """See `FileNameCorpus.changes`; each emotion has sentences of its own."""
        return {"id": f"s{row['speaker']}_{row['emotion']}_{row['text']}", "text": f"{row['emotion']} {row['text']}"}
