"""Linear layers of a frozen upstream on a CPU, by products of oneDNN that torch does not choose by itself.

In float32 from packed weights: these lie in blocks as wide as the processor's registers and are not sorted again at
each call, which is what torch.compile does under `freezing`, here without compiling for every length of utterance. A
wav2vec2-base runs 1.1 times as fast, its hidden states move by less than 1e-5.

In int8: each frame has a scale of its own, and each row of a weight, so that no other frame decides how one is rounded.
A value whose last bit differs, as padding makes it, can still be rounded to the next step: alone and in a batch can
differ by as much as int8 and float32 do (docs/speed.md). The sums of integers are the same on every processor. Weights
have 8 bits, inputs 7: a processor without VNNI adds pairs of products in 16 bits, which inputs of 8 bits overflow.
Convolutions and attention stay in float32.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

PACKING = os.environ.get("UNDERTONE_PACKING", "1") != "0"  # =0 keeps to torch's public operations
ROWS = 200  # frames that the blocks are chosen for, 4 s; other numbers are as exact and about as fast
LEVELS = 63  # of an input in int8, on each side of 0
LEAST = torch.finfo(torch.float32).tiny


@contextmanager
def packed(module: nn.Module, precision: str = "no") -> Iterator[None]:
    """While it lasts, `module` computes without gradients and, where oneDNN is available, from packed float32 weights.

    With the precision `int8` its linear layers multiply as `int8_layers` says, with `bf16` by copies of their weights,
    for use under autocast. The copies take as much memory as the linear weights do, or half, or a quarter. Weights must
    not change meanwhile. Weight-normed convolutions keep the weight that they would compute again at each call.
    """
    forward_of = {"no": _float32 if has_packing() else None, "int8": _int8, "bf16": _bfloat16}.get(precision)
    with nullcontext() if forward_of is None else _layers(module, forward_of):
        with torch.inference_mode(), parametrize.cached():
            yield


def int8_layers(module: nn.Module) -> AbstractContextManager[None]:
    """While it lasts, the linear layers of `module` multiply in int8; their weights must not change.

    The copies of the weights take a quarter of their memory.
    """
    return _layers(module, _int8)


def keep_copies(module: nn.Module, precision: str) -> None:
    """From now on the linear layers of `module` on a CPU multiply by copies of their weights in `bf16` or `int8`.

    In bf16 as autocast does, which would round the weights again at each call.
    """
    for layer in _plain_layers(module):
        layer.forward = (_int8 if precision == "int8" else _bfloat16)(layer)  # type: ignore[method-assign]


def has_packing() -> bool:
    """Whether this torch has oneDNN's products by packed weights, whose names are private, and they are wanted."""
    names = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    return PACKING and _has(torch.ops.mkldnn, *names)


def has_int8() -> bool:
    """Whether this torch has oneDNN's products of integers, whose names are private."""
    return _has(torch.ops.onednn, "qlinear_prepack", "qlinear_pointwise")


def _has(operations: Any, *names: str) -> bool:
    return torch.backends.mkldnn.is_available() and all(hasattr(operations, name) for name in names)


@contextmanager
def _layers(module: nn.Module, forward_of: Callable[[nn.Linear], partial[Tensor]]) -> Iterator[None]:
    """While it lasts, the linear layers of `module` in float32 on the CPU compute by `forward_of(layer)`."""
    layers = _plain_layers(module)
    try:
        for layer in layers:
            layer.forward = forward_of(layer)  # type: ignore[method-assign]
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)


def _plain_layers(module: nn.Module) -> list[nn.Linear]:
    """Those in float32 on the CPU that compute as torch does."""
    layers = [one for one in module.modules() if type(one) is nn.Linear and "forward" not in one.__dict__]
    return [one for one in layers if one.weight.device.type == "cpu" and one.weight.dtype == torch.float32]


def _float32(layer: nn.Linear) -> partial[Tensor]:
    return partial(_multiply, torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), ROWS), layer.bias)


def _multiply(weight: Tensor, bias: Tensor | None, input: Tensor) -> Tensor:
    """(..., K) -> (..., N)."""
    return torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")


def _bfloat16(layer: nn.Linear) -> partial[Tensor]:
    weight, bias = layer.weight.detach().bfloat16(), layer.bias
    rounded = None if bias is None else bias.detach().bfloat16()
    if has_packing() and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return partial(_multiply_rounded, torch.ops.mkldnn._reorder_linear_weight(weight, ROWS), rounded)
    return partial(_multiply_bfloat16, weight, rounded)


def _multiply_rounded(weight: Tensor, bias: Tensor | None, input: Tensor) -> Tensor:
    """(..., K) -> (..., N) bfloat16, by a packed weight."""
    return _multiply(weight, bias, input.bfloat16())


def _multiply_bfloat16(weight: Tensor, bias: Tensor | None, input: Tensor) -> Tensor:
    """(..., K) -> (..., N) bfloat16."""
    return nn.functional.linear(input.bfloat16(), weight, bias)


def _int8(layer: nn.Linear) -> partial[Tensor]:
    weight = layer.weight.detach()  # (N, K)
    scales = weight.abs().amax(1).clamp(min=LEAST) / 127  # (N,)
    integers = (weight / scales[:, None]).round().to(torch.int8)
    blocks = torch.ops.onednn.qlinear_prepack(integers, [ROWS, layer.in_features])
    zeros = torch.zeros(layer.out_features, dtype=torch.int64)
    return partial(_multiply_integers, blocks, scales, zeros, layer.bias)


def _multiply_integers(blocks: Tensor, scales: Tensor, zeros: Tensor, bias: Tensor | None, input: Tensor) -> Tensor:
    """(..., K) -> (..., N)."""
    rows = input.reshape(-1, input.shape[-1])  # (B, K)
    scale = rows.abs().amax(1, keepdim=True).clamp(min=LEAST) / LEVELS  # (B, 1)
    integers = (rows / scale).round_().add_(LEVELS + 1).to(torch.uint8)
    inputs, weights, as_floats = (integers, 1.0, LEVELS + 1), (blocks, scales, zeros), (1.0, 0, torch.float32)
    output: Tensor = torch.ops.onednn.qlinear_pointwise(*inputs, *weights, None, *as_floats, "none", [], "")
    output *= scale
    if bias is not None:
        output += bias
    return output.reshape(*input.shape[:-1], -1)  # (..., N)
