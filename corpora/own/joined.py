"""Several corpora as one, on the labels that they share: `emodb+ravdess+nemo`, with --root EmoDB+RAVDESS+nEMO.

Emotions have common names in all corpora; `map` renames what is left (`calm=neutral`). With `labels=shared`, the
default, the emotions that every corpus has are kept, with `labels=all` those of any, else the ones named. Utterances of
other emotions are left out; notes count them by corpus and emotion. Ids begin with the name of the corpus. Each
utterance has its corpus in the column `corpus`, and its language in the extra column `language`: both can be tasks, or
adversarial ones.

An option of one of the corpora has its name before it: `corpus.iemocap.labels=5class`.

The protocol `groups`, the default, divides the speakers of each corpus; `corpus` leaves one corpus out; `across` trains
on each corpus alone and tests on all others; `within` is each corpus' own default protocol.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from undertone.common.discovery import nearest
from undertone.corpora.corpus import Corpus
from undertone.corpora.folds import Fold
from undertone.corpora.manifest import Manifest, sum_votes
from undertone.corpora.own.labels import parse_map
from undertone.corpora.prepare import check_inside, unexpected_counts

BETWEEN = "+"


class Joined(Corpus):
    """Several corpora as one, on the labels that they share."""

    licence = "those of its corpora"
    citation = "those of its corpora"
    default_protocol = "groups"
    own_protocols = ("within",)

    def __init__(self, parts: Sequence[Corpus], *, labels: str = "shared", map: str = "") -> None:
        """Join corpora, each with a name of its own.

        Args:
            parts: from `load_corpus`.
            labels: the emotions to keep: `shared`, `all`, or their names, separated by commas.
            map: other names for emotions: `calm=neutral,excited=happy`.
        """
        names = [part.name for part in parts]
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise ValueError(f"Two of the corpora are called {twice[0]!r}: {', '.join(names)}. Rename one of them.")
        self.notes: list[str] = []
        self.parts, self.labels = {part.name: part for part in parts}, str(labels)
        self.map = parse_map(str(map), "corpus.map") if map else {}
        self.name = BETWEEN.join(names)
        self.url = " and ".join(dict.fromkeys(part.url for part in parts))
        self.licence = "; ".join(f"{part.name}: {part.licence}" for part in parts)
        self.citation = " ".join(dict.fromkeys(part.citation for part in parts))
        self.language = ", ".join(dict.fromkeys(part.language for part in parts if part.language))
        variants = [f"{part.name}: {part.variant}" for part in parts if part.variant]
        kept = {"shared": "the labels that all have", "all": "all labels"}.get(self.labels, self.labels)
        self.variant = "; ".join([kept, *([f"mapped: {map}"] if map else []), *variants])
        if all(part.default_root for part in parts):
            self.default_root = Path(BETWEEN.join(str(part.default_root) for part in parts))

    def rows(self, root: Path) -> Iterator[dict[str, Any]]:
        self.notes = []
        found = {name: self._read(name, *folder) for name, folder in self._roots(root).items()}
        emotions = {name: {row["emotion"] for row in rows} - {None} for name, rows in found.items()}
        kept = self._kept(emotions)
        if self.map:
            self.notes += ["emotions mapped: " + ", ".join(f"{ours} as {theirs}" for ours, theirs in self.map.items())]
        for name, rows in found.items():
            self.notes += _left_out(name, rows, kept) if emotions[name] else []
            language = {"language": self.parts[name].language.casefold()} if self.parts[name].language else {}
            for row in rows:
                row |= {"id": f"{name}/{row['id']}", "corpus": row.get("corpus") or name}
                row["extra"] = {**language, **row.get("extra", {})}
                if row["votes"] is not None and kept:
                    row["votes"] = {label: count for label, count in row["votes"].items() if label in kept}
        yield from (row for rows in found.values() for row in rows if row["emotion"] in (None, *kept))

    def _read(self, name: str, root: Path, given: bool) -> list[dict[str, Any]]:
        """The rows of one corpus, its emotions and votes renamed."""
        part = self.parts[name]
        rows = list(part.rows(root))
        if given and part.confined:
            check_inside(part, rows, root)
        self.notes += [*part.notes, *unexpected_counts(part, rows)]
        renamed = []
        for row in rows:
            emotion, votes = row.get("emotion"), row.get("votes")
            votes = None if votes is None else sum_votes(votes.items(), self.map)
            renamed.append({**row, "votes": votes, "emotion": self.map.get(str(emotion), emotion)})
        return renamed

    def _kept(self, emotions: Mapping[str, set[str]]) -> set[str]:
        """The emotions to keep, of those that each corpus has; none where no corpus has any."""
        having = [some for some in emotions.values() if some]
        every: set[str] = set().union(*having)
        for renamed in self.map.values():
            if renamed not in every:
                raise ValueError(
                    f"corpus.map: no corpus has an emotion that becomes {renamed!r}.{nearest(renamed, every)}"
                )
        if self.labels not in ("shared", "all"):
            wanted = {word.strip() for word in self.labels.split(",") if word.strip()}
            for word in sorted(wanted - every):
                raise ValueError(f"corpus.labels={self.labels}: no corpus has {word!r}.{nearest(word, every)}")
            return wanted
        kept = set.intersection(*having) if having and self.labels == "shared" else every
        if having and len(kept) < 2:
            theirs = "; ".join(f"{name}: {', '.join(sorted(some))}" for name, some in emotions.items())
            raise ValueError(
                f"These corpora share {len(kept)} emotions ({theirs}). Rename some (corpus.map=joy=happy), or keep all "
                f"(corpus.labels=all)."
            )
        return kept

    def _roots(self, root: Path) -> dict[str, tuple[Path, bool]]:
        """The folder of each corpus, and whether it was given, not its default."""
        given = str(root).split(BETWEEN)
        if len(given) != len(self.parts):
            raise ValueError(
                f"--root {root} gives {len(given)} folders for {len(self.parts)} corpora. Give one for each of "
                f"{', '.join(self.parts)}, in this order, joined by {BETWEEN}; leave one empty for its default."
            )
        roots = {}
        for (name, part), text in zip(self.parts.items(), given, strict=True):
            folder = Path(text).expanduser() if text else part.default_root
            if folder is None:
                raise ValueError(f"{name} needs a folder in --root {root}. Get its files from {part.url}.")
            roots[name] = folder, folder != part.default_root
        return roots

    def folds(
        self, manifest: Manifest, protocol: str | None = None, num_folds: int | None = None, seed: int = 0
    ) -> list[Fold]:
        """See `Corpus.folds`; `within` makes the default folds of each corpus, from its own utterances alone."""
        if protocol != "within":
            return super().folds(manifest, protocol, num_folds, seed)
        found = []
        for name, part in self.parts.items():
            rows = [row for row, one in enumerate(manifest.ids) if one.startswith(f"{name}/")]
            if rows:
                own = part.folds(Manifest(manifest.dataset.select(rows)), None, num_folds, seed)
                found += [replace(fold, name=f"{name}/{fold.name}") for fold in own]
        return found


def _left_out(name: str, rows: Sequence[Mapping[str, Any]], kept: set[str]) -> Iterator[str]:
    """Sentences that count the utterances and votes of a corpus for other emotions, and name emotions that it lacks."""
    counts = Counter(row["emotion"] for row in rows)
    if others := ", ".join(
        f"{label} {count}" for label, count in sorted(counts.items(), key=str) if label not in (None, *kept)
    ):
        yield f"{name}: left out, not among the emotions {', '.join(sorted(kept))}: {others}."
    votes: Counter[str] = Counter()
    for row in rows:
        if row["emotion"] in (None, *kept):
            votes.update(label for label, count in (row["votes"] or {}).items() if label not in kept and count)
    if votes:
        yield f"{name}: votes for {', '.join(sorted(votes))} in {votes.total()} cells are left out."
    if lacking := sorted(kept - counts.keys()):
        yield f"{name} has no {', '.join(lacking)}."
