"""docs/corpora.md, a table of the corpora: `python -m undertone.corpora.overview` prints it from their files."""

from __future__ import annotations

from undertone.corpora import corpus_names, load_corpus

_HEADER = "Name, Language, Clips, Hours, Speakers, Classes, Default protocol, Licence".split(", ")
_HEADER += ["Pitfalls of the release and of other tools"]
_NOTE = """# Corpora

Made by `python -m undertone.corpora.overview > docs/corpora.md`. Each corpus is a file in `corpora/`, whose docstring
says how its labels map to the common names, what is left out and why, and what is not confirmed on the release.
`undertone prepare NAME --root DIR` compares counts with those of the complete release and says what differs. Classes
are those of the default labels; where a number is not given, it differs by release or by paper, or is not known here.

`undertone describe NAME --root DIR` reads every file and writes a table and a page: durations, labels by gender,
balance, level, clipping, bandwidth (8 kHz audio stored at 16 kHz is recognised), the raters' agreement, duplicates.
`undertone prepare NAME --root DIR` also writes a Hugging Face dataset (`--to-dataset FOLDER`, with `--embed` the audio
in it) and an audformat database (`--to-audformat FOLDER`); both, and any other, are read in place of a corpus'
name: `hf:./FOLDER`, `FOLDER`. `--push-dataset user/name` publishes a dataset where the licence allows it, and otherwise
quotes the licence.
"""


def markdown() -> str:
    """The page."""
    rows = [_HEADER, ["---"] * len(_HEADER)]
    for name in corpus_names():
        corpus = load_corpus(name)
        if corpus.pitfalls:  # not the synthetic one
            emotions, speakers = (corpus.expected.get(column, {}) for column in ("emotion", "speaker"))
            clips, classes = corpus.num_clips or sum(emotions.values()), corpus.num_classes or len(emotions)
            numbers = (clips, corpus.hours, corpus.num_speakers or len(speakers), classes)
            shown = [f"{number:,}" if number else "–" for number in numbers]
            facts = corpus.default_protocol, corpus.licence, corpus.pitfalls
            rows.append([f"[{name}]({corpus.url})", corpus.language, *shown, *facts])
    return "\n".join([_NOTE, *(f"| {' | '.join(row)} |" for row in rows), ""])


if __name__ == "__main__":
    print(markdown(), end="")
