"""A corpus through a frozen upstream, ahead of any run."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from undertone.corpora import load_corpus
from undertone.corpora.prepare import prepare
from undertone.training.accelerator import make_accelerator, with_precision_of_device
from undertone.training.config import RunConfig
from undertone.training.frozen import Budget, fill_store, store_folder
from undertone.training.progress import Display
from undertone.upstream import load_upstream
from undertone.upstream.budget import in_words, stored_bytes
from undertone.upstream.extract import ExtractionReport
from undertone.upstream.store import Store


def extract_corpus(config: RunConfig, kind: Literal["frames", "mean"], display: Display) -> ExtractionReport:
    """Store the hidden states of a whole corpus; a run with the same upstream and store then only reads them.

    Args:
        config: its corpus, root, upstream, store, store_dtype, store_budget, mixed_precision and device count here.
        kind: all frames, or their means, which are enough for a head such as `linear`.
        display: where progress is shown.

    Raises:
        ValueError: the states need more room than the budget, or the corpus or upstream cannot be read.
        OSError: the disk is full.
    """
    corpus = load_corpus(config.corpus, config.corpus_options)
    upstream = load_upstream(config.upstream, revision=config.revision, options=config.upstream_options or None)
    config, fallen_back = with_precision_of_device(config)
    if fallen_back:
        display.say(fallen_back)
    accelerator = make_accelerator(config)
    folder = store_folder(config.store)
    with display.bar(f"checking {corpus.name}") as advance:
        prepared = prepare(
            corpus,
            Path(config.root).expanduser() if config.root else None,
            strict=config.strict,
            progress=lambda done, total: advance(done, total, ""),
            trusted=folder / "audio",
        )
    for path, reason in prepared.broken:
        display.say(f"note: set aside {path}: {reason}")
    store = Store(folder, upstream, kind, config.store_dtype, precision=config.mixed_precision)
    todo = {item.audio_hash: item.duration for item in prepared.manifest if item.audio_hash not in store}
    need = stored_bytes(upstream, todo.values(), kind, config.store_dtype)
    budget = Budget(config.store_budget, store.folder)
    display.say(f"{kind} of {len(todo)} sounds need {in_words(need)}: {budget}")
    if need > budget.bytes:
        means = in_words(stored_bytes(upstream, todo.values(), "mean"))
        raise ValueError(
            f"{kind} need {in_words(need)}, the budget is {in_words(budget.bytes)}. Give a larger --store-budget or a "
            f"smaller --dtype; --kind mean, enough for head linear, needs {means}."
        )
    return fill_store(upstream, list(prepared.manifest), store, accelerator, display)
