"""What a model costs to use: parameters, multiply-adds, real-time factor."""

from __future__ import annotations

import statistics
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from undertone.downstream.model import UndertoneModel
from undertone.downstream.network import Downstream, LiveModel
from undertone.upstream.base import with_noise
from undertone.upstream.types import WaveBatch

SECONDS = 5.0


def model_cost(model: UndertoneModel) -> dict[str, float | int]:
    """Parameters, multiply-adds of one second of audio, and the real-time factor.

    Multiply-adds are those of matrix products and convolutions (torch's flop counter / 2), without a front-end's FFT.
    The real-time factor is the median of five predictions of one 5 s clip on the model's device.
    """
    generator = torch.Generator().manual_seed(0)
    samples = 0.1 * torch.randn(1, int(SECONDS * model.sample_rate), generator=generator)
    batch = with_noise(model.upstream, samples).to(model.device)
    model.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:  # in inference mode it breaks weight norms
        model.head_output(batch)
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "multiply_adds_per_second": int(counter.get_total_flops() / 2 / SECONDS),
        "real_time_factor": statistics.median(_timed(model, batch) for _ in range(5)) / SECONDS,
    }


def trained_parameters(module: Downstream | LiveModel) -> int:
    """Number of a model's weights that were trained: layer sum, head, and those of the upstream.

    LoRA's adapters count as they are before they are merged; a ladder's decoder is no part of the model, and a layer
    sum of one chosen layer has no weights.
    """
    downstream = module.downstream
    weights = list(downstream.head.parameters())
    weights += downstream.fusion.parameters() if downstream.fusion is not None else []
    for layer_sum in downstream.layer_sums.values():
        weights += layer_sum.parameters() if layer_sum.selected is None else []
    if module.upstream is not None:
        weights += [weight for weight in module.upstream.parameters() if weight.requires_grad]
    return sum(weight.numel() for weight in weights)


def _timed(model: UndertoneModel, batch: WaveBatch) -> float:
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    model.predict_batch(batch).embedding.cpu()
    return time.perf_counter() - start
