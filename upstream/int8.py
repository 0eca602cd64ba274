"""Linear layers of a frozen upstream in int8, on a CPU: most of a Transformer's products, in integers.

Each frame has a scale of its own, and each row of a weight: what shares a batch changes nothing, nor does padding, and
the sums of integers are the same on every processor. Weights have 8 bits, inputs 7: a processor without VNNI adds
pairs of products in 16 bits, which inputs of 8 bits overflow. Convolutions and attention stay in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

LEVELS = 63  # on each side of 0, of inputs
ROWS = 200  # frames that oneDNN's blocks are chosen for, 4 s; other numbers are as exact and about as fast


def has_int8() -> bool:
    """Whether this torch has oneDNN's integer products, whose names are private."""
    names = ("qlinear_prepack", "qlinear_pointwise")
    return torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.onednn, name) for name in names)


@contextmanager
def int8_layers(module: nn.Module) -> Iterator[None]:
    """While it lasts, the linear layers of `module`, float32 on the CPU, multiply in int8; weights must not change.

    The copies of the weights take a quarter of their memory.
    """
    layers = [one for one in module.modules() if type(one) is nn.Linear and one.weight.dtype == torch.float32]
    try:
        for layer in layers:
            layer.forward = _forward(layer)  # type: ignore[method-assign]
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)


def _forward(layer: nn.Linear) -> partial[Tensor]:
    weight = layer.weight.detach()  # (N, K)
    scales = weight.abs().amax(1).clamp(min=torch.finfo(torch.float32).tiny) / 127  # (N,)
    integers = (weight / scales[:, None]).round().to(torch.int8)
    packed = torch.ops.onednn.qlinear_prepack(integers, [ROWS, layer.in_features])
    zeros = torch.zeros(layer.out_features, dtype=torch.int64)
    return partial(_linear, packed, scales, zeros, layer.bias)


def _linear(packed: Tensor, scales: Tensor, zeros: Tensor, bias: Tensor | None, input: Tensor) -> Tensor:
    """(..., K) -> (..., N)."""
    rows = input.reshape(-1, input.shape[-1])  # (B, K)
    scale = rows.abs().amax(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny) / LEVELS  # (B, 1)
    integers = (rows / scale).round_().add_(LEVELS + 1).to(torch.uint8)
    inputs, weights, as_floats = (integers, 1.0, LEVELS + 1), (packed, scales, zeros), (1.0, 0, torch.float32)
    output: Tensor = torch.ops.onednn.qlinear_pointwise(*inputs, *weights, None, *as_floats, "none", [], "")
    output *= scale
    if bias is not None:
        output += bias
    return output.reshape(*input.shape[:-1], -1)
