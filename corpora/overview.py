"""docs/corpora.md, a table of the corpora: `python -m undertone.corpora.overview` prints it from their files."""

from __future__ import annotations

from undertone.corpora import corpus_names, load_corpus

_HEADER = (
    "Name",
    "Language",
    "Clips",
    "Speakers",
    "Classes",
    "Default protocol",
    "Licence",
    "Pitfalls of the release and of other tools",
)
_NOTE = """# Corpora

Made by `python -m undertone.corpora.overview > docs/corpora.md`. Each corpus is a file in `corpora/`, whose docstring
says how its labels map to the common names, what is left out and why, and what is not confirmed on the release.
`undertone prepare NAME --root DIR` compares counts with those of the complete release and says what differs. Classes
are those of the default labels; where a number is not given, it differs by release or by paper.
"""


def markdown() -> str:
    """The page."""
    lines = [_NOTE, _row(_HEADER), _row(["---"] * len(_HEADER))]
    for name in corpus_names():
        corpus = load_corpus(name)
        if corpus.pitfalls or corpus.num_clips:  # not the synthetic one
            numbers = (corpus.num_clips, corpus.num_speakers, corpus.num_classes)
            shown = ["–" if number is None else f"{number:,}" for number in numbers]
            title = f"[{name}]({corpus.url})"
            lines.append(
                _row([title, corpus.language, *shown, corpus.default_protocol, corpus.licence, corpus.pitfalls])
            )
    return "\n".join(lines) + "\n"


def _row(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print(markdown(), end="")
