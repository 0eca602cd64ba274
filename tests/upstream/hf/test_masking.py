"""Group norms over the valid frames, against torch's own on each utterance alone; eager and exported."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from undertone.upstream.hf.masking import mask_norms

LENGTHS = torch.tensor([9, 4, 7])


class Masked(nn.Module):
    """Takes the lengths as an input, as an exported graph does."""

    def __init__(self, norm):
        super().__init__()
        self.norm = norm

    def forward(self, frames, lengths):
        self.norm.lengths = lengths
        return self.norm(frames)


def make():
    torch.manual_seed(0)
    norm = nn.GroupNorm(5, 5)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm, torch.randn(3, 5, 9) * 3 + 1


@pytest.mark.parametrize("exported", [False, True], ids=["eager", "exported"])
def test_each_utterance_as_if_alone(exported):
    norm, frames = make()
    masked = Masked(deepcopy(norm))
    mask_norms(masked)
    run = torch.export.export(masked, (frames, LENGTHS)).module() if exported else masked
    output = run(frames, LENGTHS)
    assert torch.isfinite(output).all()
    for row, one, length in zip(output, frames, LENGTHS.tolist(), strict=True):
        torch.testing.assert_close(row[:, :length], norm(one[None, :, :length])[0])
    whole = norm(frames)
    assert (output[1, :, :4] - whole[1, :, :4]).abs().max() > 0.01  # the plain norm lets the padding in


def test_gradients_as_if_alone():
    norm, frames = make()
    model = Masked(deepcopy(norm))
    ((masked,), _) = mask_norms(model)
    masked.lengths = LENGTHS
    ours, alone = frames.clone().requires_grad_(), frames.clone().requires_grad_()
    pull = torch.randn(3, 5, 9)
    sum((row * to)[:, :n].sum() for row, to, n in zip(masked(ours), pull, LENGTHS.tolist(), strict=True)).backward()
    rows = zip(alone, pull, LENGTHS.tolist(), strict=True)
    sum((norm(one[None, :, :n])[0] * to[:, :n]).sum() for one, to, n in rows).backward()
    torch.testing.assert_close(ours.grad, alone.grad)
    torch.testing.assert_close(masked.weight.grad, norm.weight.grad)
