from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from undertone.upstream import WaveBatch, load_upstream
from undertone.upstream.acoustic.mfcc import Mfcc
from undertone.upstream.hf.random_weights import ARCHITECTURES
from undertone.upstream.linear_layers import packed
from undertone.upstream.precision import AUTOCAST, autocast, check_precision, frame_errors, safe_convolutions
from undertone.upstream.store.store import Store

CPU = torch.device("cpu")
TINY = [name for name in ARCHITECTURES if name.startswith("tiny")]
NOISE = 0.1 * torch.randn(8000, generator=torch.Generator().manual_seed(0))


class WrongKernels(TorchFunctionMode):
    """A CPU on which a bf16 operation writes a wrong last frame, as oneDNN's convolutions do for some shapes."""

    def __init__(self, operation, axis: int) -> None:
        super().__init__()
        self.operation, self.axis = operation, axis
        self.generator = torch.Generator().manual_seed(0)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        if func is self.operation and output.dtype == torch.bfloat16:
            output = output.clone()
            last = output.select(self.axis, -1)
            last.copy_(torch.randn(last.shape, generator=self.generator) * output.float().std())
        return output


@pytest.mark.parametrize("architecture", TINY)
def test_bf16_is_close_in_every_frame_of_every_layer_whatever_the_cpus_convolutions_do(tiny, architecture) -> None:
    upstream = load_upstream(str(tiny(architecture))).eval()
    with WrongKernels(torch.conv1d, 2), WrongKernels(torch.conv2d, 3):
        errors = frame_errors(upstream, NOISE, CPU, "bf16")
    assert errors.shape[0] == upstream.num_layers and 1e-6 < errors.max() < 0.05


def test_convolutions_left_to_such_a_cpu_would_be_far_off(tiny) -> None:
    """What the extraction was before: one wrong frame of 24."""
    upstream = load_upstream(str(tiny("tiny-wav2vec2"))).eval()
    batch = WaveBatch.collate([NOISE], 16_000)
    with torch.inference_mode(), WrongKernels(torch.conv1d, 2):
        exact = upstream(batch).states
        with torch.autocast("cpu", torch.bfloat16):
            plain = upstream(batch).states
    assert 0.15 < (plain - exact).norm() / exact.norm() < 0.4


def test_a_device_that_is_wrong_elsewhere_is_refused_with_the_error(tiny) -> None:
    upstream = load_upstream(str(tiny("tiny-wav2vec2"))).eval()
    check_precision(upstream, CPU, "bf16")
    with WrongKernels(torch.nn.functional.linear, 1):
        check_precision(upstream, CPU, "no")
        with pytest.raises(ValueError, match=r"bf16 is wrong on this CPU: a frame of layer \d of .* is 1\d\d % off"):
            check_precision(upstream, CPU, "bf16")
        with pytest.raises(ValueError, match="Use mixed_precision=no"):
            check_precision(upstream, CPU, "bf16")


def test_broken_weights_are_not_the_precisions_fault(tiny) -> None:
    upstream = load_upstream(str(tiny("tiny-wav2vec2"))).eval()
    with torch.no_grad():
        upstream.model.encoder.layers[0].final_layer_norm.bias[0] = float("nan")
    check_precision(upstream, CPU, "bf16")


def test_upstreams_without_weights_are_exact() -> None:
    assert not frame_errors(Mfcc(), NOISE, CPU, "bf16").any()


@pytest.mark.parametrize("precision", AUTOCAST)
def test_convolutions_and_their_gradients_are_those_of_float32(precision) -> None:
    conv, wave = torch.nn.Conv1d(1, 16, 10, 5), NOISE[None, None]
    expected = torch.autograd.grad(conv(wave).square().sum(), conv.weight)[0]
    with autocast(CPU, precision):
        output = conv(wave.to(AUTOCAST[precision]).float())
        assert conv(wave).dtype == torch.float32 and torch.equal(
            conv(wave), torch.conv1d(wave, conv.weight, conv.bias, 5)
        )
        assert torch.nn.functional.linear(torch.ones(1, 2), torch.ones(3, 2)).dtype == AUTOCAST[precision]
        assert conv(wave.to(AUTOCAST[precision])).dtype == torch.float32 and output.dtype == torch.float32
        got = torch.autograd.grad(conv(wave).square().sum(), conv.weight)[0]
    assert torch.equal(got, expected) and not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("taps", "step"), [(3, 2), (2, 2), (5, 1)])
def test_convolutions_of_many_channels_are_products_in_bf16(taps: int, step: int, bias: bool) -> None:
    conv = torch.nn.Conv1d(32, 16, taps, step, bias=bias)
    signal = torch.randn(3, 32, 100, generator=torch.Generator().manual_seed(1))
    half = [None if one is None else one.bfloat16().double() for one in (signal, conv.weight, conv.bias)]
    with torch.no_grad(), autocast(CPU, "bf16"):
        found = conv(signal)
        alone = torch.cat([conv(one[None]) for one in signal])
        named = torch.conv1d(signal, weight=conv.weight, bias=conv.bias, stride=[step])
    expected = torch.conv1d(*half, step)  # exact, of the same inputs
    assert found.dtype == torch.bfloat16 and torch.equal(found, alone) and torch.equal(found, named)
    torch.testing.assert_close(found.double(), expected, rtol=0.01, atol=0.02)


OTHERS = {
    "padding": {"padding": 1},
    "same": {"padding": "same"},
    "groups": {"groups": 2},
    "dilation": {"dilation": 2},
    "many taps": {"kernel_size": 9},
}


@pytest.mark.parametrize("settings", OTHERS.values(), ids=OTHERS)
def test_other_convolutions_compute_in_float32(settings: dict[str, Any]) -> None:
    conv = torch.nn.Conv1d(32, 16, **({"kernel_size": 3} | settings))
    signal = torch.randn(3, 32, 100, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = conv(signal)
        with autocast(CPU, "bf16"):
            assert torch.equal(conv(signal), expected)


def test_convolutions_that_are_being_trained_and_odd_inputs_compute_as_without_autocast() -> None:
    conv = torch.nn.Conv1d(32, 16, 3)
    signal = torch.randn(3, 32, 100, generator=torch.Generator().manual_seed(1))
    expected = conv(signal)
    with autocast(CPU, "bf16"):
        assert torch.equal(conv(signal), expected)  # its weights learn here
        with torch.no_grad():
            assert conv(signal[0]).shape == (16, 98) and conv(signal[:0]).shape == (0, 16, 98)
            assert conv.double()(signal.double()).dtype == torch.float64


def test_an_extraction_in_bf16_rounds_the_weights_as_autocast_does(tiny) -> None:
    upstream = load_upstream(str(tiny("tiny-wavlm"))).eval()
    batch = WaveBatch.collate([NOISE], 16_000)
    with torch.inference_mode(), autocast(CPU, "bf16"):
        expected = upstream(batch).states
    with packed(upstream, "bf16"), autocast(CPU, "bf16"):
        torch.testing.assert_close(upstream(batch).states, expected, rtol=0, atol=1e-6)


def test_states_of_each_precision_have_a_store_of_their_own(tiny, tmp_path) -> None:
    upstream = load_upstream(str(tiny("tiny-wavlm")))
    folders = {Store(tmp_path, upstream, precision=one).folder for one in ("no", "bf16", "fp16", "int8")}
    assert len(folders) == 4


def test_float32_on_a_gpu_is_float32_whatever_is_asked_of_torch_later() -> None:
    """In a process of its own: these settings are torch's, and of the whole process."""
    code = (
        "import torch, undertone.upstream; cudnn = torch.backends.cudnn; torch.backends.fp32_precision = 'tf32'; "
        "print(cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision, cudnn.allow_tf32); "
        "print(torch.backends.cuda.cudnn_sdp_enabled())"  # which makes a plan for each shape of a batch
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["ieee", "ieee", "False", "False"]


def test_nothing_is_changed_without_autocast() -> None:
    conv = torch.nn.Conv1d(1, 4, 3).bfloat16()
    with safe_convolutions(CPU, "bf16"):
        assert conv(torch.ones(1, 1, 9, dtype=torch.bfloat16)).dtype == torch.bfloat16
