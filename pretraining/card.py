"""The card of a pretrained upstream, and the curves of its training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from undertone.common.files import atomic_path, read_record
from undertone.pretraining.record import FILE_NAME

CARD, CURVES = "README.md", "pretraining.png"


def write_card(folder: Path) -> None:
    """Write FOLDER/README.md and FOLDER/pretraining.png from its pretraining.json."""
    record = read_record(folder / FILE_NAME, settings=dict, history=list)
    draw_curves(record["history"], folder / CURVES)
    with atomic_path(folder / CARD) as draft:
        draft.write_text(card_text(record), encoding="utf-8")


def card_text(record: dict[str, Any]) -> str:
    """The Markdown of a card."""
    settings, last = record["settings"], record["history"][-1]
    start = f"weights of {Path(settings['upstream']).name}" if settings["upstream"] else "random weights"
    units = f"masked prediction of {settings['num_units']} units ({settings['targets']})"
    task = {
        "units": units,
        "workers": f"{units} and regression of timbre, loudness and voice around every frame",
        "contrastive": "wav2vec 2.0's contrastive loss",
    }[settings["objective"]]
    corpora = ", ".join(Path(name).name for name in settings["corpora"])
    lines = [
        "---", "library_name: transformers", "tags: [speech, self-supervised, undertone]", "---", "",
        "# A speech upstream", "",
        f"Trained without labels by `undertone pretrain`: {task}, {record['steps']} updates of "
        f"{settings['batch_size']} utterances from {start}, on {len(record['audio_hashes'])} utterances of {corpora}.",
        *(f"- {note}" for note in record["notes"]), "",
        f"At the end the loss was {last['loss']:.3f}, {100 * last['accuracy']:.1f} % of the masked frames were "
        f"predicted, and {last['predicted_perplexity']:.1f} units were in even use.", "",
        f"![Loss and units over the updates]({CURVES})", "",
        "```python", "from undertone.upstream import load_upstream", "",
        'upstream = load_upstream("FOLDER")', "```", "",
        "`pretraining.json` says which audio it was trained on, by hashes, so that `undertone crossval` can refuse or "
        "mark folds whose test speakers are among it. It is not tried on any task; its licence follows from those of "
        "the corpora.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def draw_curves(history: list[dict[str, Any]], path: Path) -> None:
    """Loss, and how many units are in even use, over the updates."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    steps = [one["step"] for one in history]
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    left.plot(steps, [one["loss"] for one in history], marker="." if len(steps) < 30 else "")
    left.set(xlabel="updates", ylabel="loss of a masked frame")
    right.plot(steps, [one["predicted_perplexity"] for one in history], label="predicted")
    if history[-1]["target_perplexity"] is not None:
        right.plot(steps, [one["target_perplexity"] for one in history], label="targets")
    right.set(xlabel="updates", ylabel="units in even use (perplexity)", ylim=(0, None))
    right.legend()
    with atomic_path(path) as draft:
        figure.savefig(draft, format="png", dpi=120)
    plt.close(figure)
