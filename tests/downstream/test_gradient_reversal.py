"""Gradient reversal: the checks of the paper's equations on a small encoder."""

import math

import pytest
import torch
from torch.nn import functional as F

from undertone.downstream.losses import Adversary, reversal_strength, reverse_gradient
from undertone.downstream.task import Task

SPEAKER = Task("speaker", "classification", ("a", "b", "c"), adversarial=True)


def test_the_gradient_is_minus_strength_times_the_plain_one():
    values = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    (plain,) = torch.autograd.grad(values.sin().sum(), values)
    turned = reverse_gradient(values, 0.3)
    assert torch.equal(turned, values)
    (reversed_,) = torch.autograd.grad(turned.sin().sum(), values)
    torch.testing.assert_close(reversed_, -0.3 * plain)


@pytest.mark.parametrize("strength", [0.0, 0.7])
def test_the_encoder_climbs_where_the_adversary_descends(strength):
    torch.manual_seed(0)
    encoder, adversary = torch.nn.Linear(5, 4), Adversary(4, (SPEAKER,))
    inputs, speakers = torch.randn(6, 5), torch.tensor([0, 1, 2, 0, 1, 2])

    def gradients(embedding, strength):
        loss = F.cross_entropy(adversary(embedding, strength)["speaker"], speakers)
        weights = [encoder.weight, *adversary.parameters()]
        return torch.autograd.grad(loss, weights)

    plain = gradients(encoder(inputs), -1.0)  # turned twice: not at all
    turned = gradients(encoder(inputs), strength)
    torch.testing.assert_close(turned[0], -strength * plain[0])
    torch.testing.assert_close(turned[1:], plain[1:])


def test_strength_rises_from_nothing_to_its_maximum():
    assert reversal_strength(0.0, 3.0) == 0.0
    assert reversal_strength(0.5) == pytest.approx(math.tanh(2.5))  # the same function by another name
    assert reversal_strength(1.0, 3.0) == pytest.approx(3.0, abs=1e-3)
