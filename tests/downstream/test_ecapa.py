"""The ECAPA head: the Res2 block written a second way, and its size."""

import pytest
import torch
from torch.nn import functional as F

from undertone.downstream.heads.ecapa import EcapaHead, _Block
from undertone.downstream.task import Task
from undertone.upstream.types import Frames

TASKS = (Task("emotion", "classification", ("angry", "happy", "sad")),)


def norm(values: torch.Tensor) -> torch.Tensor:
    """A fresh batch norm in eval mode: mean 0 and variance 1."""
    return values / (1 + 1e-5) ** 0.5


def test_res2_block_as_in_the_paper():
    torch.manual_seed(0)
    block, features = _Block(8, dilation=2, scale=4, bottleneck=3).eval(), torch.randn(1, 7, 8)

    def convolve(part, values):
        return norm(F.conv1d(values, part.convolution.weight, part.convolution.bias, dilation=2, padding=2).relu())

    def pointwise(part, values):
        return norm(F.conv1d(values, part.convolution.weight, part.convolution.bias).relu())

    entered = pointwise(block.enter, features.transpose(1, 2))
    x1, x2, x3, x4 = entered.split(2, dim=1)
    y2 = convolve(block.groups[0], x2)
    y3 = convolve(block.groups[1], x3 + y2)
    y4 = convolve(block.groups[2], x4 + y3)
    left = pointwise(block.leave, torch.cat([x1, y2, y3, y4], dim=1))  # (1, 8, 7)
    gate = torch.sigmoid(block.excite(torch.relu(block.squeeze(left.mean(2)))))
    expected = features + (left * gate[:, :, None]).transpose(1, 2)
    torch.testing.assert_close(block(features, torch.ones(1, 7, dtype=torch.bool)), expected)


def test_has_the_published_number_of_parameters():
    """Desplanques et al. 2020, table 1: 6.2 million at 512 channels, of 80 coefficients a frame."""
    head = EcapaHead({"speech": 80}, TASKS)
    own = sum(value.numel() for name, value in head.named_parameters() if not name.startswith("outputs"))
    assert round(own / 1e6, 1) == 6.2


@pytest.mark.parametrize("lengths", [[1], [1, 5]])
def test_trains_on_a_single_short_utterance(lengths):
    head = EcapaHead({"speech": 6}, TASKS, channels=16, scale=4, attention_size=4, embedding_size=5).train()
    frames = Frames(torch.randn(len(lengths), max(lengths), 6), torch.tensor(lengths))
    output = head({"speech": frames})
    assert output.embedding.shape == (len(lengths), 5)
    output.logits["emotion"].sum().backward()
    assert all(value.grad is None or value.grad.isfinite().all() for value in head.parameters())
