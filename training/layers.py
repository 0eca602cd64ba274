"""What a ladder adds to a training: the stream of unlabelled speech, and layers that are learned before the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from accelerate import Accelerator

from undertone.downstream.ladder_downstream import LadderDownstream
from undertone.downstream.live import LiveModel
from undertone.training.run import Run
from undertone.training.trainer import Follow, Trainer
from undertone.training.unlabelled import UnlabelledStream

if TYPE_CHECKING:
    from undertone.corpora.manifest import Utterance
    from undertone.downstream.downstream import Downstream


def stream_of(run: Run) -> UnlabelledStream | None:
    """What the run's ladder hears besides the corpus."""
    if not run.unlabelled:
        return None
    return UnlabelledStream(run.unlabelled, run.config.batch_size, run.config.seed)


def learn_layers(
    run: Run,
    module: Downstream | LiveModel,
    folder: Path,
    accelerator: Accelerator,
    utterances: Sequence[Utterance],
    total: int,
    follow: Follow,
) -> None:
    """Learn a ladder's layers by reconstruction alone, and then keep them: an autoencoder that a head is put on.

    Args:
        run: with a ladder.
        module: from `new_module`; afterwards only its linear outputs can learn.
        folder: of the checkpoints.
        accelerator: devices and processes.
        utterances: of the training part; no label is looked at.
        total: updates.
        follow: called after every update.

    Raises:
        ValueError: the upstream would learn as well.
    """
    if not isinstance(module, LadderDownstream):
        raise ValueError(f"ladder.first=true is for a frozen upstream, got mode={run.config.mode}. Use mode=frozen.")
    tasks = tuple(replace(task, weight=0.0) for task in run.tasks)
    config = run.config.model_copy(update={"task_weighting": "fixed", "adversarial": ()})
    trainer = Trainer(config, tasks, run.source, module, folder, accelerator, follow, unlabelled=stream_of(run))
    trainer.fit(utterances, [], total)
    module.keep_layers()
