"""EMOVO: 588 acted Italian utterances, 6 speakers, 14 sentences, 7 emotions.

`f1/dis-f1-b1.wav` = emotion, speaker (f1 f2 f3 are women, m1 m2 m3 men), sentence; 48 kHz, nearly all stereo. dis gio
neu pau rab sor tri = disgusted happy neutral fearful angry surprised sad. Nothing is left out. Leave-one-speaker-out
makes six folds. Not confirmed on the release.
"""

from undertone.corpora._file_names import FileNameCorpus


class Emovo(FileNameCorpus):
    """EMOVO; leave-one-speaker-out."""

    name = "emovo"
    licence = "free for research"
    url = "http://voice.fub.it/activities/corpora/emovo/index.html"
    citation = (
        "G. Costantini, I. Iaderola, A. Paoloni, M. Todisco: EMOVO Corpus: an Italian Emotional Speech Database. "
        "LREC 2014, 3501-3504."
    )
    language = "Italian"
    pitfalls = "Nearly all files are stereo."
    emotions = {
        "dis": "disgusted",
        "gio": "happy",
        "neu": "neutral",
        "pau": "fearful",
        "rab": "angry",
        "sor": "surprised",
        "tri": "sad",
    }
    genders = {"f": "female", "m": "male"}
    example = "f1/dis-f1-b1.wav"
    stem = rf"(?P<emotion>{'|'.join(emotions)})-(?P<speaker>(?P<gender>[fm])[123])-(?P<text>[a-z]\d)"
    expected = {
        "emotion": dict.fromkeys(emotions.values(), 84),
        "speaker": dict.fromkeys(("f1", "f2", "f3", "m1", "m2", "m3"), 98),
    }
    default_protocol = "speaker"
