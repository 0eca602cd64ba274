"""Arithmetic of fewer bits: autocast to bf16 or fp16, int8, what stays in float32, and a check before it is trusted.

On a processor with AVX512-BF16 or AMX-BF16 torch hands bf16 convolutions to oneDNN, some of whose kernels write wrong
frames at the edge of the output for some shapes (pytorch/pytorch#169688 and #163347, uxlfoundation/oneDNN#5494). There
a bf16 extraction of an upstream with 16 channels was 27 % off: as much as one wrong frame of 24 makes, and four times
what rounding every output of any one of its convolutions by 3 % makes (inferred from that, and from imitating wrong
frames in each layer). No convolution is therefore left to these kernels on a CPU: those of a feature encoder (at least
16 channels, no padding, no groups, weights that are not being trained), most of the work, go as matrix products in
bf16, the others in float32. Linear layers and attention go in bf16.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from undertone.upstream.base import Upstream, with_noise
from undertone.upstream.linear_layers import has_int8, int8_layers, keep_copies
from undertone.upstream.types import HiddenStates, StreamBatch

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
LIMIT = 0.25  # relative error of a frame: bf16 makes .01 to .04 in the families at tiny widths, a wrong frame 1.4
PROBES = (0.1, 0.53)  # s of noise: few frames, and a number of them that no kernel's tile divides

_CONVOLUTIONS = frozenset({
    torch.conv1d, torch.conv2d, torch.conv3d, torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d
})  # fmt: skip


class SafeConvolutions(TorchFunctionMode):
    """Within it, convolutions on a CPU under autocast are matrix products in its dtype, or compute in float32."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call `func`; a convolution as a product, or without autocast on what it would get without autocast."""
        kwargs = kwargs or {}
        if func not in _CONVOLUTIONS or not args or not args[0].is_cpu or not torch.is_autocast_enabled("cpu"):
            return func(*args, **kwargs)
        if func is torch.conv1d and (product := _as_product(*args, **kwargs)) is not None:
            return product
        with torch.autocast("cpu", enabled=False):
            return func(*map(_in_float32, args), **{name: _in_float32(value) for name, value in kwargs.items()})


def _as_product(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    """(B, C, N), (O, C, K) -> (B, O, T), a convolution as a matrix product an utterance, in autocast's dtype.

    None: it is better left as it is. It has few channels, many taps, padding, dilation, groups, weights that are being
    trained, inputs in float64, or no (B, C, N) input.
    """
    plain = _one(padding) in (0, "valid") and _one(dilation) == 1 and groups == 1 and weight.shape[1] >= 16
    learns = torch.is_grad_enabled() and weight.requires_grad
    if not plain or learns or weight.shape[2] > 8 or input.dim() != 3 or not len(input) or input.dtype == torch.float64:
        return None
    dtype = torch.get_autocast_dtype("cpu")
    patches = input.to(dtype).unfold(2, weight.shape[2], _one(stride)).transpose(2, 3)  # (B, C, K, T)
    rows = weight.to(dtype).flatten(1)  # (O, C K)
    output = torch.stack([rows @ patch.flatten(0, 1) for patch in patches])  # (B, O, T)
    return output if bias is None else output + bias.to(dtype)[:, None]


def _one(value: Any) -> Any:
    """A setting of a convolution over one dimension: itself, or what its tuple holds."""
    return value[0] if isinstance(value, tuple | list) else value


def _in_float32(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype in AUTOCAST.values() else value


def safe_convolutions(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    """`SafeConvolutions` where a precision needs it: below float32, on a CPU."""
    return SafeConvolutions() if precision != "no" and device.type == "cpu" else contextlib.nullcontext()


@contextlib.contextmanager
def autocast(device: torch.device, precision: str) -> Iterator[None]:
    """Compute with `precision`: `no` (as it stands), `bf16` or `fp16`; convolutions as in `SafeConvolutions`."""
    if precision not in AUTOCAST:
        yield
        return
    with torch.autocast(device.type, AUTOCAST[precision]), safe_convolutions(device, precision):
        yield


def in_precision(upstream: Upstream, device: torch.device, precision: str) -> contextlib.AbstractContextManager[None]:
    """Run a frozen upstream with `precision`: as `autocast`, or `int8` of its linear layers on a CPU."""
    own = own_precision(upstream, precision)
    return int8_layers(upstream) if own == "int8" else autocast(device, own)


def native_precision(device: torch.device) -> str:
    """`bf16` where the device multiplies it natively, else `no`: what `mixed_precision=auto` stands for."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return "bf16" if any(getattr(torch.cpu, name, bool)() for name in names) else "no"


def precisions_of(device: torch.device) -> list[str]:
    """Those that a device has, `no` first; a CPU computes bf16 whether it does so natively or not."""
    if device.type == "cuda":
        return ["no", *(["bf16"] if native_precision(device) == "bf16" else []), "fp16"]
    return ["no", "bf16", *(["int8"] if has_int8() else [])]


def own_precision(module: nn.Module, precision: str) -> str:
    """What `module` computes in where `precision` is asked for: `no` without weights, of linear layers for int8."""
    if precision == "int8":
        return precision if any(type(layer) is nn.Linear for layer in module.modules()) else "no"
    return precision if next(module.parameters(), None) is not None else "no"


def choose_precision(module: nn.Module, device: torch.device, wanted: str) -> str:
    """`wanted`, which may be `auto`: bf16 where the device computes it natively and `module` has weights, else `no`.

    Runs, extractions and predictions ask here, so that they refuse the same precisions.

    Raises:
        ValueError: the device or the module has it not.
    """
    if wanted == "auto":
        return own_precision(module, native_precision(device))
    check_available(module, device, wanted)
    return wanted


def keep_in_precision(upstream: Upstream, device: torch.device, precision: str) -> None:
    """From now on `upstream` computes as within `in_precision`, in every thread, for predictions on `device` alone.

    Its weights must not change, and what needs float32 asks `check_exact`.

    Raises:
        ValueError: a precision that the device or the upstream has not; or see `check_precision`.
    """
    check_exact(upstream, "Another precision")
    check_available(upstream, device, precision)
    check_precision(upstream, device, precision)
    for part in upstream.streams.values():
        keep(part, device, own_precision(part, precision))
    upstream.precision = own_precision(upstream, precision)


def keep(module: nn.Module, device: torch.device, precision: str) -> None:
    """What `keep_in_precision` does to a module, unchecked."""
    if precision in ("bf16", "int8"):
        keep_copies(module, precision)
    if precision in AUTOCAST:
        module.forward = partial(_in_autocast, device, precision, module.forward)


def check_available(module: nn.Module, device: torch.device, precision: str) -> None:
    """Refuse a precision that the device or the module has not."""
    allowed = precisions_of(device)
    if precision not in allowed:
        where = "GPU" if device.type == "cuda" else "CPU"
        raise ValueError(f"mixed_precision={precision!r} is not for this {where}. Use {', '.join(allowed)} or auto.")
    if precision == "int8" and own_precision(module, precision) == "no":
        raise ValueError("mixed_precision=int8 is for linear layers, and this model's upstream has none. Leave it out.")


def check_exact(upstream: Upstream, what: str) -> None:
    """Refuse an upstream that was loaded in another precision than float32; `what` begins the sentence."""
    if upstream.precision != "no":
        raise ValueError(
            f"{what} needs a model in float32, and this one was loaded with mixed_precision={upstream.precision}. "
            f"Load it again without."
        )


def _in_autocast(device: torch.device, precision: str, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with autocast(device, precision):
        output = forward(*args, **kwargs)
    return output.to(device, torch.float32) if isinstance(output, HiddenStates | StreamBatch) else output


def check_precision(upstream: Upstream, device: torch.device, precision: str) -> None:
    """Refuse a precision in which this device computes other hidden states: noise is tried in it and in float32.

    The upstream is on `device` and in eval mode; with `no` nothing is tried.
    """
    for part in upstream.streams.values():
        _check_precision(part, device, own_precision(part, precision))


def _check_precision(upstream: Upstream, device: torch.device, precision: str) -> None:
    probes = {"no": (), "int8": PROBES[-1:]}.get(precision, PROBES)
    for seconds in probes:
        noise = probe_noise(seconds, upstream.sample_rate)
        error = frame_errors(upstream, noise, device, precision).amax(1)  # (L,)
        worst = int(error.nan_to_num(torch.inf).argmax())
        if not error[worst] <= LIMIT:
            raise ValueError(
                f"mixed_precision={precision} is wrong on this {'CPU' if device.type == 'cpu' else 'GPU'}: a frame of "
                f"layer {worst} of {upstream.name} is {100 * float(error[worst]):.0f} % off float32, more than "
                f"{100 * LIMIT:.0f} %. Use mixed_precision=no."
            )


def probe_noise(seconds: float, sample_rate: int) -> Tensor:
    """(N,), always the same."""
    return 0.1 * torch.randn(round(seconds * sample_rate), generator=torch.Generator().manual_seed(0))


def frame_errors(upstream: Upstream, wave: Tensor, device: torch.device, precision: str) -> Tensor:
    """(N,) samples -> (L, T) float32, how far each frame is off float32, see `relative_errors`."""
    batch = with_noise(upstream, wave[None]).to(device)
    with torch.inference_mode():
        exact = upstream(batch).states[0].float()  # (L, T, D)
        with in_precision(upstream, device, precision):
            rounded = upstream(batch).states[0].float()  # (L, T, D)
        errors = relative_errors(rounded, exact)  # (L, T)
    return errors.where(exact.isfinite().all(2), 0).cpu()  # broken weights are not the precision's fault


def relative_errors(states: Tensor, exact: Tensor) -> Tensor:
    """(L, T, D) and what it should be -> (L, T): of each frame the norm of the difference over the norm."""
    errors: Tensor = (states - exact).norm(dim=2) / exact.norm(dim=2).clamp(min=1e-6)
    return errors
