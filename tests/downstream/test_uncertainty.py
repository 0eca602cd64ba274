"""Learned weights of tasks: the stationary points of Kendall et al."""

import math

import pytest
import torch

from undertone.downstream.losses import UncertaintyWeights
from undertone.downstream.task import Task

TASKS = (Task("emotion", "classification", ("a", "b")), Task("arousal", "regression", ("arousal",)))


def slope(task: Task, log_variance: float, loss: float) -> float:
    """d/ds of the task's weighed loss."""
    weights = UncertaintyWeights(TASKS)
    weights.log_variances.data[TASKS.index(task)] = log_variance
    weights(task, torch.tensor(loss)).backward()
    gradient = weights.log_variances.grad
    assert gradient[1 - TASKS.index(task)] == 0
    return float(gradient[TASKS.index(task)])


@pytest.mark.parametrize(("task", "factor"), [(TASKS[0], 2.0), (TASKS[1], 1.0)])
@pytest.mark.parametrize("loss", [0.2, 1.5])
def test_settles_where_the_variance_is_the_loss(task, factor, loss):
    """exp(s) = 2 L for classes, L for values; below it s rises, above it s falls."""
    settled = math.log(factor * loss)
    assert slope(task, settled, loss) == pytest.approx(0, abs=1e-6)
    assert slope(task, settled - 0.1, loss) < 0 < slope(task, settled + 0.1, loss)


def test_starts_with_the_losses_as_they_are():
    weights = UncertaintyWeights(TASKS)
    assert weights(TASKS[0], torch.tensor(1.5)) == 1.5
    assert weights(TASKS[1], torch.tensor(1.5)) == 0.75


def test_the_shares_of_a_batch_sum_to_the_whole():
    weights = UncertaintyWeights(TASKS)
    weights.log_variances.data.fill_(0.8)
    whole = weights(TASKS[0], torch.tensor(2.0))
    parts = weights(TASKS[0], torch.tensor(0.5), fraction=0.25) + weights(TASKS[0], torch.tensor(1.5), fraction=0.75)
    torch.testing.assert_close(parts, whole)


def test_stays_within_its_bounds():
    weights = UncertaintyWeights(TASKS)
    weights.log_variances.data = torch.tensor([-9.0, 7.0])
    weights.clamp()
    assert weights.log_variances.tolist() == [-5.0, 5.0]
