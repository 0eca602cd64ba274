"""Post-processing of predictions over time: median filter, centring, scaling and time shift, chosen on dev.

Trigeorgis et al. 2016, Tzirakis et al. 2017: in this order, each step kept if it improves the CCC on dev.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np

from undertone.scoring.metrics import ccc
from undertone.scoring.predictions import Predictions

STEPS = ("median", "centring", "scaling", "delay")
WINDOWS = (11, 25, 51, 101, 251, 501)  # rows: 0.4 s to 20 s on a grid of 40 ms
STILL = 1e-6  # a smaller standard deviation is rounding
DELAYS = (1, 2, 5, 10, 15, 25, 50, 75, 100, 150, 200, 250)  # rows: 40 ms to 10 s


@dataclass(frozen=True)
class Chain:
    """The post-processing of one task; the default does nothing.

    Attributes:
        window: rows of the median filter; 1: none.
        offset: added to every value.
        centre: the mean on dev, around which values are scaled.
        scale: factor.
        delay: rows by which predictions are delayed, as annotators react late.
    """

    window: int = 1
    offset: float = 0.0
    centre: float = 0.0
    scale: float = 1.0
    delay: int = 0

    def __call__(self, values: np.ndarray, ids: Sequence[str]) -> np.ndarray:
        """(R,) values, utterance by utterance in the order of time -> (R,)."""
        from scipy.ndimage import median_filter

        found = np.array(values, dtype=np.float64)
        for rows in _utterances(ids):
            if self.window > 1:
                found[rows] = median_filter(found[rows], size=self.window, mode="nearest")
            if self.delay:
                found[rows] = np.concatenate([np.full(self.delay, found[rows][0]), found[rows]])[: len(found[rows])]
        return self.centre + self.scale * (found + self.offset - self.centre)


def _utterances(ids: Sequence[str]) -> Iterator[slice]:
    """The rows of each utterance."""
    start = 0
    for _, group in groupby(ids):
        end = start + sum(1 for _ in group)
        yield slice(start, end)
        start = end


def choose_chain(steps: Sequence[str], values: np.ndarray, truth: np.ndarray, ids: Sequence[str]) -> Chain:
    """The chain of those of the allowed steps that each improve the CCC of these predictions.

    Args:
        steps: of `STEPS`, the allowed ones.
        values: (R,) predictions on dev.
        truth: (R,) annotations, NaN where there is none.
        ids: (R,) utterance of each row.
    """
    known, chain = ~np.isnan(truth), Chain()
    if known.sum() < 2:
        return chain
    wanted = truth[known]
    for step in (step for step in STEPS if step in steps):
        made = chain(values, ids)[known]
        candidates = [chain]
        if step == "median":
            candidates += [replace(chain, window=window) for window in WINDOWS]
        elif step == "centring":
            candidates.append(replace(chain, offset=float(wanted.mean()) - float(made.mean())))
        elif step == "scaling" and made.std() > STILL:
            scale = float(wanted.std()) / float(made.std())
            candidates.append(replace(chain, centre=float(made.mean()), scale=scale))
        elif step == "delay":
            candidates += [replace(chain, delay=delay) for delay in DELAYS]
        chain = max(candidates, key=lambda one: ccc(wanted, one(values, ids)[known]))
    return chain


def postprocess(
    steps: Sequence[str], dev: Predictions, test: Predictions
) -> tuple[Predictions, dict[str, dict[str, Any]]]:
    """Choose a chain on dev for every task over time: the test predictions after it, and the chains by task.

    The targets of test are not used.
    """
    chains = {
        task.name: asdict(choose_chain(steps, dev.scores[task.name][:, 0], dev.targets[task.name], dev.ids))
        for task in test.tasks
        if task.level == "frame"
    }
    return apply_chains(chains, test), chains


def apply_chains(chains: Mapping[str, Mapping[str, Any]], predictions: Predictions) -> Predictions:
    """Apply chains, as `fold.json` has them under `postprocess`."""
    scores = dict(predictions.scores)
    for task, settings in chains.items():
        scores[task] = Chain(**settings)(scores[task][:, 0], predictions.ids)[:, None].astype(np.float32)
    return replace(predictions, scores=scores)
