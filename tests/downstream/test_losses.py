import math

import pytest
import torch
from torch.nn import functional as F

from undertone.downstream.losses import LossOptions, ccc, is_labelled, loss_count, task_loss
from undertone.downstream.task import Task

EMOTION = Task("emotion", "classification", ("angry", "happy", "sad"))
AROUSAL = Task("arousal", "regression", ("arousal",))
VOTES = Task("emotion", "distribution", ("angry", "happy", "sad"))
LOGITS = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([0, -1, 2, 1])
WEIGHTS = torch.tensor([0.5, 1.0, 3.0])
SHARES = torch.tensor([[0.5, 0.5, 0.0], [torch.nan] * 3, [0.0, 0.25, 0.75], [1.0, 0.0, 0.0]])


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


@pytest.mark.parametrize("size", [2, 3, 10, 1000])
@pytest.mark.parametrize("width", [10.0, 1.0, 1e-2, 1e-3])
def test_ccc_loss_does_not_depend_on_the_range_of_the_targets(size, width):
    truth = 0.5 + width * torch.linspace(0, 1, size)
    total, count = task_loss(AROUSAL, truth[:, None], truth)
    assert 0 <= float(total / count) < 1e-6
    near = truth + 0.1 * width * torch.sin(torch.arange(size) * 3.0)
    x, y = near.double(), truth.double()
    by_hand = (
        2 * ((x - x.mean()) * (y - y.mean())).mean() / (x.var(correction=0) + y.var(correction=0) + (x - y).mean() ** 2)
    )
    total, count = task_loss(AROUSAL, near[:, None], truth)
    assert float(total / count) == pytest.approx(1 - float(by_hand), abs=1e-4)


def test_ccc_loss_of_constant_targets_is_one_without_a_gradient():
    for predicted in ([0.3, 0.3, 0.3], [0.1, 0.9, 0.2]):
        logits = torch.tensor(predicted)[:, None].requires_grad_()
        total, count = task_loss(AROUSAL, logits, torch.tensor([0.3, 0.3, 0.3]))
        total.backward()
        assert float(total / count) == 1 and not logits.grad.any()


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


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_weights_and_smoothing_have_the_mean_of_torchs_own_loss(smoothing, weights):
    total, count = task_loss(EMOTION, LOGITS, TARGETS, LossOptions(label_smoothing=smoothing), weights)
    expected = F.cross_entropy(LOGITS, TARGETS, weight=weights, label_smoothing=smoothing, ignore_index=-1)
    torch.testing.assert_close(total / count, expected)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_worked_by_hand(gamma):
    logits = torch.tensor([[math.log(6), math.log(3), 0.0]])  # probabilities 0.6, 0.3, 0.1
    total, count = task_loss(EMOTION, logits, torch.tensor([1]), LossOptions(focal_gamma=gamma), WEIGHTS * 2)
    assert float(total) == pytest.approx(-2 * 0.7**gamma * math.log(0.3), rel=1e-5)
    assert float(count) == 2


def test_focal_loss_of_a_certain_prediction_has_a_finite_gradient():
    logits = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    task_loss(EMOTION, logits, torch.tensor([0]), LossOptions(focal_gamma=0.5))[0].backward()
    assert logits.grad.isfinite().all()


def test_soft_labels_cost_the_cross_entropy_against_the_shares():
    total, count = task_loss(VOTES, LOGITS, SHARES)
    rows = torch.tensor([0, 2, 3])
    torch.testing.assert_close(total, F.cross_entropy(LOGITS[rows], SHARES[rows], reduction="sum"))
    assert count == 3


def test_soft_labels_that_all_raters_share_are_hard_labels():
    shares = F.one_hot(TARGETS.clamp(min=0), 3).float()
    shares[1] = torch.nan
    options = LossOptions(label_smoothing=0.2, focal_gamma=2.0)
    hard, soft = (
        task_loss(EMOTION, LOGITS, TARGETS, options, WEIGHTS),
        task_loss(VOTES, LOGITS, shares, options, WEIGHTS),
    )
    torch.testing.assert_close(soft, hard)


def test_with_class_weights_the_count_is_their_sum():
    assert float(loss_count(EMOTION, TARGETS, WEIGHTS)) == 0.5 + 3.0 + 1.0
    assert float(loss_count(VOTES, SHARES, WEIGHTS)) == pytest.approx(0.75 + (0.25 + 2.25) + 0.5)
    assert loss_count(AROUSAL, torch.tensor([0.1, torch.nan]), WEIGHTS) == 1


def test_squared_error():
    logits, truth = torch.tensor([[1.0], [9.0], [0.5]]), torch.tensor([0.0, torch.nan, 1.0])
    total, count = task_loss(AROUSAL, logits, truth, LossOptions(regression="mse"))
    assert float(total) == pytest.approx(1.25) and count == 2


@pytest.mark.parametrize("targets", [TARGETS, SHARES, torch.tensor([0.5, torch.nan, 0.0, 1.0])])
def test_what_is_missing(targets):
    assert is_labelled(targets).tolist() == [True, False, True, True]


@pytest.mark.parametrize(("task", "targets"), [(EMOTION, TARGETS), (VOTES, SHARES)])
def test_weighted_sums_over_parts_divided_by_the_whole_weight_give_the_gradient_of_the_whole_batch(task, targets):
    options = LossOptions(label_smoothing=0.1, focal_gamma=1.5)
    logits = LOGITS.clone().requires_grad_()
    total, count = task_loss(task, logits, targets, options, WEIGHTS)
    (whole,) = torch.autograd.grad(total / count, logits)
    parts = [task_loss(task, logits[rows], targets[rows], options, WEIGHTS)[0] for rows in ([0], [1], [2, 3])]
    summed = sum(parts) / loss_count(task, targets, WEIGHTS)
    torch.testing.assert_close(torch.autograd.grad(summed, logits)[0], whole)


def test_ccc_loss_of_a_batch_without_any_annotated_time_is_nothing():
    logits = torch.zeros(0, 1, requires_grad=True)
    total, count = task_loss(AROUSAL, logits, torch.zeros(0))
    total.backward()
    assert float(total) == count == 0 and logits.grad is not None
