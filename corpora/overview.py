"""docs/corpora.md, a table of the corpora: `python -m undertone.corpora.overview` prints it from their files."""

from __future__ import annotations

from undertone.corpora import corpus_names, load_corpus

_HEADER = "Name, Language, Clips, Speakers, Classes, Default protocol, Licence".split(", ")
_HEADER += ["Pitfalls of the release and of other tools"]
_NOTE = """# Corpora

Made by `python -m undertone.corpora.overview > docs/corpora.md`. Each corpus is a file in `corpora/`, whose docstring
says how its labels map to the common names, what is left out and why, and what is not confirmed on the release.
`undertone prepare NAME --root DIR` compares counts with those of the complete release and says what differs. Classes
are those of the default labels; where a number is not given, it differs by release or by paper.
"""


def markdown() -> str:
    """The page."""
    rows = [_HEADER, ["---"] * len(_HEADER)]
    for name in corpus_names():
        corpus = load_corpus(name)
        if corpus.pitfalls or corpus.num_clips:  # not the synthetic one
            numbers = (corpus.num_clips, corpus.num_speakers, corpus.num_classes)
            shown = ["–" if number is None else f"{number:,}" for number in numbers]
            facts = corpus.default_protocol, corpus.licence, corpus.pitfalls
            rows.append([f"[{name}]({corpus.url})", corpus.language, *shown, *facts])
    return "\n".join([_NOTE, *(f"| {' | '.join(row)} |" for row in rows), ""])


if __name__ == "__main__":
    print(markdown(), end="")
