import math

import pytest
import torch
from torch.nn import functional as F

from undertone.downstream.losses import ccc, task_loss
from undertone.downstream.task import Task

EMOTION = Task("emotion", "classification", ("angry", "happy", "sad"))
AROUSAL = Task("arousal", "regression", ("arousal",))


def test_cross_entropy_is_a_sum_over_the_labelled_rows():
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([0, -1, 2, 1])
    total, count = task_loss(EMOTION, logits, targets)
    by_hand = -sum(logits[row].log_softmax(0)[target] for row, target in enumerate(targets.tolist()) if target >= 0)
    torch.testing.assert_close(total, by_hand)
    assert count == 3


def test_a_batch_without_labels_gives_zero_and_a_zero_gradient():
    for task, missing in ((EMOTION, torch.tensor([-1, -1])), (AROUSAL, torch.tensor([torch.nan, torch.nan]))):
        logits = torch.ones(2, task.num_outputs, requires_grad=True)
        total, count = task_loss(task, logits, missing)
        total.backward()
        assert total == 0 and count == 0
        assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_ccc_worked_by_hand():
    # x = 1 2 3, y = 2 4 7: means 2 and 13/3, population variances 2/3 and 38/9, covariance 5/3.
    expected = 2 * (5 / 3) / (2 / 3 + 38 / 9 + (2 - 13 / 3) ** 2)
    assert float(ccc(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 4.0, 7.0]))) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("size", [2, 3, 50])
def test_ccc_loss_of_perfect_constant_and_opposite_predictions(size):
    truth = torch.linspace(0, 1, size)
    for predictions, expected in ((truth, 0.0), (torch.full((size,), 0.3), 1.0), (1 - truth, 2.0)):
        total, count = task_loss(AROUSAL, predictions[:, None], truth)
        assert float(total / count) == pytest.approx(expected, abs=1e-4)


def test_ccc_loss_ignores_missing_values_and_needs_two():
    logits = torch.tensor([[0.1], [5.0], [0.9]])
    total, count = task_loss(AROUSAL, logits, torch.tensor([0.0, torch.nan, 1.0]))
    assert count == 2
    assert float(total) == pytest.approx(
        2 * (1 - float(ccc(torch.tensor([0.1, 0.9]), torch.tensor([0.0, 1.0])))), abs=1e-6
    )
    total, _ = task_loss(AROUSAL, logits, torch.tensor([0.0, torch.nan, torch.nan]))
    assert float(total) == 0


def test_sums_over_parts_divided_by_the_whole_count_give_the_gradient_of_the_whole_batch():
    torch.manual_seed(0)
    weight = torch.randn(5, 3, requires_grad=True)
    inputs, targets = torch.randn(7, 5), torch.tensor([0, 1, -1, 2, 2, -1, 0])
    (whole,) = torch.autograd.grad(F.cross_entropy(inputs @ weight, targets, ignore_index=-1), weight)
    parts = [(inputs[:2], targets[:2]), (inputs[2:], targets[2:])]  # 2 and 3 labelled rows: unequal on purpose
    summed = sum(task_loss(EMOTION, x @ weight, t)[0] for x, t in parts) / 5
    torch.testing.assert_close(torch.autograd.grad(summed, weight)[0], whole)


def test_uniform_logits_cost_log_of_the_number_of_classes():
    total, count = task_loss(EMOTION, torch.zeros(2, 3), torch.tensor([0, 2]))
    assert float(total / count) == pytest.approx(math.log(3))
