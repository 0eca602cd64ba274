"""The average of the weights and the consistency loss against formulas written a second way."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from undertone.downstream.mean_teacher import MeanTeacherDownstream
from undertone.downstream.network import Downstream
from undertone.downstream.task import Task
from undertone.upstream.types import ALONE, HiddenStates, StreamShape

TASKS = (Task("emotion", "classification", ("a", "b", "c")), Task("arousal", "regression", ("arousal",)))
LENGTHS = torch.tensor([5, 3])


def made(weight: float = 2.0) -> MeanTeacherDownstream:
    torch.manual_seed(0)
    shape = {ALONE: StreamShape(num_layers=2, hidden_size=4)}
    return MeanTeacherDownstream(shape, TASKS, "attention", {"hidden_size": 8, "dropout": 0.0}, weight=weight)


def states(seed: int) -> HiddenStates:
    return HiddenStates(torch.randn(2, 2, 5, 4, generator=torch.Generator().manual_seed(seed)), LENGTHS)


def trained(model: MeanTeacherDownstream, count: int) -> list[dict[str, torch.Tensor]]:
    """The weights after each of `count` updates."""
    found = []
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    for step in range(count):
        model.train()
        output = model(states(step), states(100 + step))
        optimizer.zero_grad()
        sum(logits.square().sum() for logits in output.logits.values()).backward()
        optimizer.step()
        model.after_update((step + 1) / count)
        found.append({name: value.detach().clone() for name, value in model.named_parameters()})
    return found


def test_the_average_follows_the_weights_and_predicts() -> None:
    model = made()
    start = {name: value.detach().clone() for name, value in model.named_parameters()}
    weights = [start, *trained(model, 4)]
    expected = copy.deepcopy(model)
    with torch.no_grad():
        for name, value in expected.named_parameters():
            average = weights[0][name]
            for number, one in enumerate(weights[1:]):
                average = (1 + number) / (10 + number) * average + 9 / (10 + number) * one[name]
            value.copy_(average)
    plain = Downstream.forward(expected.eval(), states(7))
    found = model.eval()(states(7))
    for task in TASKS:
        torch.testing.assert_close(found.logits[task.name], plain.logits[task.name], atol=1e-5, rtol=1e-5)
    current = Downstream.forward(model, states(7)).logits["emotion"]
    assert not torch.allclose(found.logits["emotion"], current, atol=1e-3)
    model.take_average()
    torch.testing.assert_close(Downstream.forward(model, states(7)).logits["emotion"], found.logits["emotion"])


def test_the_loss_is_the_mean_squared_difference_and_rises() -> None:
    model = made(weight=2.0)
    trained(model, 3)
    model.progress.fill_(0.1)
    output = model.train()(states(1), states(2))
    total, count = output.losses["consistency"]
    ours, average = Downstream.forward(model, states(2)).logits, model.eval()(states(2)).logits
    classes = ((ours["emotion"].softmax(1) - average["emotion"].softmax(1)) ** 2).mean(1)
    values = ((ours["arousal"] - average["arousal"]) ** 2)[:, 0]
    expected = 2.0 * math.exp(-5 * 0.25) * (classes + values).sum().item() / 2
    assert float(total) == pytest.approx(expected, rel=1e-4) and float(count) == 2 and expected > 0
    ramps = []
    for progress in (0.0, 0.1, 0.2, 1.0):
        model.progress.fill_(progress)
        ramps.append(model.ramp())
    assert ramps == pytest.approx([math.exp(-5), math.exp(-1.25), 1, 1])


def test_a_selected_layer_stays_selected() -> None:
    model = made()
    model.layer_sums[ALONE].select(1)
    trained(model, 3)
    found = model.eval()(states(7)).logits["emotion"]
    assert found.isfinite().all()
    one = HiddenStates(states(7).states[:, 1:], LENGTHS)
    torch.testing.assert_close(model(one).logits["emotion"], found)


def test_only_what_is_trained_gets_a_gradient_of_it() -> None:
    model = made()
    trained(model, 2)
    total, _ = model.train()(states(1), states(2)).losses["consistency"]
    total.backward()
    assert all(value.grad is not None for name, value in model.named_parameters() if "penalty" not in name)
    assert not any(buffer.requires_grad for buffer in model.buffers())
    assert "consistency" not in model(states(1)).losses
