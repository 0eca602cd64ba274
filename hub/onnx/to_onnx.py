"""A model as an ONNX graph: it then predicts with onnxruntime, without PyTorch."""

from __future__ import annotations

import logging
import math
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from undertone.common.discovery import available
from undertone.common.files import new_folder, write_json
from undertone.downstream.head import task_output
from undertone.downstream.model import UndertoneModel, utterance_logits
from undertone.downstream.task import free_name
from undertone.upstream import HiddenStates, WaveBatch
from undertone.upstream.acoustic._base import BatchedAcoustic
from undertone.upstream.acoustic._opensmile import OpenSmile
from undertone.upstream.acoustic.contours import Contours
from undertone.upstream.base import Upstream
from undertone.upstream.hf.encoder import EncoderUpstream
from undertone.upstream.hf.families import FAMILIES
from undertone.upstream.hf.upstream import FamilyUpstream
from undertone.upstream.hf.video import VideoUpstream
from undertone.upstream.precision import check_exact
from undertone.upstream.types import StreamBatch

GRAPH, QUANTISED, ABOUT, SCRIPT = "model.onnx", "model.int8.onnx", "model.json", "predict.py"
CHECK_SECONDS = (0.5, 3.0, 15.0)
TOLERANCE = 1e-4
OPSET = 17
INSTALL = "Install what it needs: pip install 'undertone[onnx]'."
NO_GRAPH: dict[type[Upstream], str] = {
    OpenSmile: "openSMILE's own program computes its features",
    EncoderUpstream: "transformers computes the input of this type outside PyTorch",
    VideoUpstream: "it looks at pictures, and the graph is given sound alone",
    Contours: "the logarithm of a matrix is among its features, which ONNX does not have",
}


@dataclass(frozen=True)
class OnnxModel:
    """What `to_onnx` made.

    Attributes:
        folder: model.onnx, model.int8.onnx, model.json (tasks, sample rate), predict.py.
        size: bytes of model.onnx.
        difference: the largest one between a score of the graph and of PyTorch, over a padded batch of noises of
            `CHECK_SECONDS`.
        int8: of model.int8.onnx; None where it would not be smaller, and is not written.
    """

    folder: Path
    size: int
    difference: float
    int8: Int8Model | None


@dataclass(frozen=True)
class Int8Model:
    """The graph with its matrices in int8.

    Attributes:
        size: bytes.
        difference: as of `OnnxModel`, each noise alone.
        in_batch: how far sharing a padded batch moves a score. The inputs of a matrix are quantised by the range of
            all that it is given, so that an utterance depends on its batch.
    """

    size: int
    difference: float
    in_batch: float


def upstream_graph(upstream: Upstream) -> tuple[Any, int]:
    """A module with `frame_lengths` and `states` that can be traced, and the samples of its first frame.

    Raises:
        ValueError: the upstream computes in other code than PyTorch's, or in a class from outside undertone.
    """
    if isinstance(upstream, FamilyUpstream):
        return upstream, upstream.receptive_field
    if isinstance(upstream, BatchedAcoustic) and type(upstream).__module__.startswith("undertone.upstream."):
        return deepcopy(upstream).double(), upstream.window
    reasons = (reason for kind, reason in NO_GRAPH.items() if isinstance(upstream, kind))
    reason = next(reasons, "it is code from outside undertone")
    known = ", ".join(available("undertone.upstream.acoustic", BatchedAcoustic))
    raise ValueError(
        f"Upstream {upstream.name!r} cannot be exported to ONNX: {reason}. Where undertone is installed, "
        f"`undertone predict` takes the model as it is. "
        f"What can be exported: {known}, and Hugging Face models of the types {', '.join(sorted(FAMILIES))}."
    )


class ScoreGraph(nn.Module):
    """Samples and lengths -> the scores of each task, with nothing in it that depends on the lengths' values.

    Args:
        model: what predicts.
        upstreams: {stream: the graph of its upstream}.
    """

    def __init__(self, model: UndertoneModel, upstreams: dict[str, nn.Module]) -> None:
        super().__init__()
        self.model = model
        self.upstreams = nn.ModuleDict(upstreams)

    def forward(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """(B, N) float32, (B,) int64 -> probabilities (B, C) or values (B, 1), a tensor a task."""
        streams, upstreams = {}, cast(Mapping[str, Any], dict(self.upstreams.items()))
        for name, upstream in upstreams.items():
            frames = upstream.frame_lengths(lengths)
            longest = upstream.frame_lengths(torch.scalar_tensor(samples.shape[1], dtype=torch.int64))
            states = upstream.states(samples, lengths, frames, padded=True, longest=longest)  # (B, L, T, D)
            streams[name] = HiddenStates(states, frames)
        output = self.model.downstream(StreamBatch(streams))
        return tuple(task_output(task, utterance_logits(output, task.name)) for task in self.model.tasks)


def to_onnx(model: UndertoneModel, folder: str | Path) -> OnnxModel:
    """Write a model as ONNX, also with its matrices in int8 where that is smaller, and a script that predicts with it.

    Batch and length are dynamic; `lengths` is an input, so that padding changes nothing there either. The graph is run
    by onnxruntime and compared with PyTorch before the folder is there.

    Args:
        model: with any head of ours, on any upstream of ours but openSMILE.
        folder: a new folder.

    Raises:
        ValueError: another upstream, or one in another precision than float32, the packages are not installed, the
            folder is not empty, or onnxruntime does not give PyTorch's scores.
    """
    check_exact(model.upstream, "An export to ONNX")
    found = {name: upstream_graph(part) for name, part in model.upstream.streams.items()}
    graphs = {name: graph for name, (graph, _) in found.items()}
    min_samples = max(samples for _, samples in found.values())
    try:
        import onnx  # noqa: F401  # quantisation and torch's exporter import it
        import onnxruntime
    except ImportError as error:
        raise ValueError(f"ONNX export: no {error.name} here. {INSTALL}") from error
    model = model.cpu().eval()
    waves = _noises(model.sample_rate)
    with new_folder(Path(folder)) as draft, _refused(model.config.head):
        _trace(model, graphs, draft / GRAPH)
        _quantise(draft / GRAPH, draft / QUANTISED)
        write_json(draft / ABOUT, _about(model, min_samples))
        shutil.copyfile(Path(__file__).parent / "predict_onnx.py.j2", draft / SCRIPT)
        expected = _run_torch(model, waves)
        difference = _largest(_run_onnx(_session(draft / GRAPH), waves), expected)
        if not difference <= TOLERANCE:
            raise ValueError(
                f"onnxruntime {onnxruntime.__version__} gives scores that differ from PyTorch's by "
                f"{difference:.2g}; nothing was exported. Report this with the upstream's model_type and the head."
            )
        sizes = [(draft / name).stat().st_size for name in (GRAPH, QUANTISED)]
        int8 = None
        if sizes[1] < sizes[0]:
            session = _session(draft / QUANTISED)
            rows = [_run_onnx(session, [wave]) for wave in waves]
            alone = [np.concatenate(of_task) for of_task in zip(*rows, strict=True)]
            together = _run_onnx(session, waves)
            int8 = Int8Model(sizes[1], _largest(alone, expected), _largest(together, alone))
        else:
            (draft / QUANTISED).unlink()
    return OnnxModel(Path(folder), sizes[0], difference, int8)


def _largest(found: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> float:
    """The largest difference of a score of any task."""
    return max(float(abs(some - other).max()) for some, other in zip(found, wanted, strict=True))


@contextmanager
def _refused(head: str) -> Iterator[None]:
    """Turn what the tracer and onnxruntime raise, whose errors share no class, into one sentence."""
    try:
        yield
    except (ValueError, OSError):
        raise
    except Exception as error:
        raise ValueError(
            f"Head {head!r} cannot be exported to ONNX: its graph does not hold for batches of any size and length "
            f"({type(error).__name__}). What works: --head attention, linear, ecapa, frames."
        ) from error


def _about(model: UndertoneModel, min_samples: int) -> dict[str, Any]:
    """What the script must know; it pads to `min_samples` and refuses more than `max_samples`, unless that is None."""
    longest = model.upstream.max_seconds
    return {
        "sample_rate": model.sample_rate,
        "min_samples": min_samples,
        "max_samples": int(longest * model.sample_rate) if math.isfinite(longest) else None,
        "tasks": [task.to_dict() for task in model.tasks],
    }


def _trace(model: UndertoneModel, graphs: dict[str, nn.Module], path: Path) -> None:
    """By torch's TorchScript exporter: ten times as fast as the dynamo one, whose graphs gave the same scores."""
    size = model.sample_rate // 2
    example = torch.zeros(2, size), torch.tensor([size, size // 2])
    dynamic = {0: "batch", 1: "num_samples"}
    outputs = [free_name(task.name, "samples", "lengths") for task in model.tasks]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer: what it took for constant is what the comparison checks
        torch.onnx.export(
            ScoreGraph(model, graphs),
            example,
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=["samples", "lengths"],
            output_names=outputs,
            dynamic_axes={"samples": dynamic, "lengths": {0: "batch"}} | {name: {0: "batch"} for name in outputs},
        )


def _quantise(graph: Path, path: Path) -> None:
    """Matrices in int8, inputs quantised as they come; convolutions stay, which int8 makes slower and wrong.

    Weights use 7 of the 8 bits: a processor without VNNI adds pairs of products in 16 bits, which 8 overflow.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns, on the root, of what stays in float, and of steps that change nothing
    try:
        kinds, weights = ["MatMul", "Gemm"], QuantType.QInt8
        quantize_dynamic(graph, path, op_types_to_quantize=kinds, weight_type=weights, reduce_range=True)
    finally:
        logger.setLevel(level)


def _noises(sample_rate: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [0.1 * torch.randn(int(seconds * sample_rate), generator=generator) for seconds in CHECK_SECONDS]


def _run_torch(model: UndertoneModel, waves: Sequence[Tensor]) -> list[np.ndarray]:
    output = model.predict_batch(WaveBatch.collate(list(waves), model.sample_rate))
    return [task_output(task, utterance_logits(output, task.name)).numpy() for task in model.tasks]


def _session(path: Path) -> Any:
    """A graph in onnxruntime, with as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _run_onnx(session: Any, waves: Sequence[Tensor]) -> list[np.ndarray]:
    batch = WaveBatch.collate(list(waves), 1)
    return list(session.run(None, {"samples": batch.samples.numpy(), "lengths": batch.lengths.numpy()}))
