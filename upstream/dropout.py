"""Dropout whose masks depend on an utterance, and not on what shares its batch.

torch draws one mask for a whole batch, in the order of its memory: another batch size, another longest utterance or
another process gives an utterance another mask. Here an element's mask is a hash of three things: a number that is
drawn once a call from torch's random state, the utterance, and the element's place in the utterance. An update then
drops out the same in one batch or several micro-batches, in one process or several, alone or padded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_active: list[UtteranceDropout] = []


class UtteranceDropout(TorchFunctionMode):
    """While it is entered, every dropout of torch's takes masks of the utterances, in heads and in upstreams.

    That is `torch.nn.functional.dropout`, `dropout1d` to `dropout3d` and the attention dropout of
    `scaled_dot_product_attention`, and so the modules that call them; and the noise of `torch.randn_like`. Their first
    axis must be the batch, or the batch times something (heads). Not reached are dropout inside torch's own kernels
    (`nn.LSTM` and `nn.MultiheadAttention` with dropout) and other random numbers.

    Gradient checkpointing, which calls the forward pass again, needs `repeated`.

    Args:
        rows: (B,) int32 of each batch that the module is given (the labelled one, and what a ladder takes beside it):
            a number of each utterance.
    """

    def __init__(self, *rows: Tensor) -> None:
        super().__init__()
        self.rows = rows
        self.number = 0  # of the batch that passes through the module now
        self.members: Sequence[int] | None = None  # which of its utterances do; None: all

    def utterances(self, device: torch.device) -> Tensor:
        """(B,) int32, the numbers of the utterances that pass through the module now."""
        rows = self.rows[self.number]
        return (rows if self.members is None else rows[list(self.members)]).to(device)

    def __enter__(self) -> UtteranceDropout:
        _active.append(self)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        _active.pop()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _CHANNELS:
            return self._dropout(func, *args, **kwargs)
        if func is F.scaled_dot_product_attention:
            return self._attention(*args, **kwargs)
        if func is torch.randn_like:
            return random_normal(*args, **kwargs)
        return func(*args, **kwargs)

    def _dropout(
        self, func: Callable[..., Tensor], input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        """(B, ...) with elements, or with `dropout1d` and the like whole channels, set to 0."""
        if not training or p == 0 or p == 1:
            return func(input, p, training, inplace)
        return self._drop(input, p, _CHANNELS[func])

    def _drop(self, values: Tensor, p: float, channels: bool) -> Tensor:
        threshold = round(p * 2**16)
        call = int(torch.randint(2**31, (), device="cpu"))
        rows = self.utterances(values.device)
        shape = [*values.shape[1:2], *([1] * (values.ndim - 2))] if channels else values.shape[1:]
        dropped = random_bits(rows, call, values.shape[0], shape) < threshold - 2**15
        kept = 1 / (1 - threshold / 2**16)
        if channels:
            return values * torch.where(dropped, values.new_zeros(()), values.new_full((), kept))
        return torch.where(dropped, values.new_zeros(()), values * kept)

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        **options: Any,
    ) -> Tensor:
        """Attention whose weights are dropped out; torch's own, which draws inside its kernel, where nothing is."""
        if not dropout_p or is_causal or options.get("enable_gqa"):  # the last two: decoders, of which there is none
            return F.scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, **options)
        scale = options.get("scale") or 1 / math.sqrt(query.shape[-1])
        scores = (query * scale) @ key.mT  # (B, heads, T, T)
        if attn_mask is not None:
            is_bool = attn_mask.dtype == torch.bool
            scores = scores.masked_fill(~attn_mask, -math.inf) if is_bool else scores + attn_mask
        return self._drop(scores.softmax(-1).to(value.dtype), dropout_p, channels=False) @ value


_CHANNELS: dict[Any, bool] = {F.dropout: False, F.dropout1d: True, F.dropout2d: True, F.dropout3d: True}


@contextmanager
def batch_number(number: int) -> Iterator[None]:
    """What passes through a module here are the utterances of the batch of this number, see `UtteranceDropout`."""
    for mode in _active:
        mode.number = number
    try:
        yield
    finally:
        for mode in _active:
            mode.number = 0


def in_groups(groups: Iterable[Sequence[int]]) -> Iterator[Sequence[int]]:
    """Each group of a batch's utterances that pass through a module alone, by their places in the batch.

    Each begins with the same random state, so that an utterance's masks do not depend on how the batch is divided.
    """
    state = torch.get_rng_state() if _active else None
    for members in groups:
        if state is not None:
            torch.set_rng_state(state)
        for mode in _active:
            mode.members = members
        try:
            yield members
        finally:
            for mode in _active:
                mode.members = None


def repeated() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """`context_fn` of `torch.utils.checkpoint`: a pass that the backward pass repeats has the dropout of the first.

    torch restores the random state itself, but enters no mode.
    """
    return nullcontext(), _again(*((mode, mode.number, mode.members) for mode in _active[-1:]))


@contextmanager
def _again(*modes: tuple[UtteranceDropout, int, Sequence[int] | None]) -> Iterator[None]:
    with ExitStack() as stack:
        for mode, number, members in modes:
            stack.enter_context(mode)
            stack.enter_context(batch_number(number))
            mode.members = members
        try:
            yield
        finally:
            for mode, _, _ in modes:
                mode.members = None


def random_normal(like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """(B, ...) standard normal noise in the form of `like`, drawn from torch's random state or `generator`.

    It is an utterance's own where an `UtteranceDropout` is entered.
    """
    if not _active:
        return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)
    device = "cpu" if generator is None else generator.device
    call = int(torch.randint(2**31, (), generator=generator, device=device))
    rows = _active[-1].utterances(like.device)
    first, second = (
        (random_bits(rows, call + half, like.shape[0], like.shape[1:]).float() + 2**15 + 0.5) / 2**16
        for half in range(2)
    )
    noise: Tensor = (-2 * first.log()).sqrt() * (2 * math.pi * second).cos()  # Box & Muller 1958
    return noise.to(like.dtype)


def random_bits(rows: Tensor, call: int, size: int, shape: Sequence[int]) -> Tensor:
    """(size, *shape) int16, uniform: a hash of the call, the row and the place in it, whatever the shape's sizes.

    `rows` (B,) int32 has one number for each utterance; `size` is B or a multiple of it.
    """
    if size % len(rows):
        raise ValueError(f"Dropout of {size} rows in a batch of {len(rows)} utterances: its first axis is no batch.")
    state = _mixed(_mixed(rows.clone()) + _signed(call))  # (B,)
    if size != len(rows):
        state = _next(state, size // len(rows)).flatten()  # (size,)
    *outer, last = shape or (1,)
    for width in outer:
        state = _next(state, width)
    bits = _next(state, -(-last // 2)).view(torch.int16)[..., :last]  # two from each hash
    return bits if shape else bits[..., 0]


def _next(state: Tensor, width: int) -> Tensor:
    """(...) -> (..., width): a hash for each place along one more axis."""
    places = torch.arange(width, dtype=torch.int32, device=state.device) * _signed(0x9E3779B1)
    return _mixed(state.unsqueeze(-1) + places)


def _mixed(bits: Tensor) -> Tensor:
    """Wellons' lowbias32 of int32, in place; the masks take the copies of the sign away that a shift brings in."""
    bits.bitwise_xor_((bits >> 16).bitwise_and_(0xFFFF)).mul_(0x7FEB352D)
    bits.bitwise_xor_((bits >> 15).bitwise_and_(0x1FFFF)).mul_(_signed(0x846CA68B))
    return bits.bitwise_xor_((bits >> 16).bitwise_and_(0xFFFF))


def _signed(number: int) -> int:
    """The lowest 32 bits as a signed number."""
    return (number + 2**31) % 2**32 - 2**31
