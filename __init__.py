"""Undertone: speech emotion recognition on self-supervised speech models.

>>> import undertone
>>> config = undertone.RunConfig(corpus="calls.csv", upstream="fbank", max_epochs=1, head_options={"hidden_size": 8})
>>> results = undertone.train(config, "runs/calls")  # one fold; `crossval` trains all
>>> model = undertone.load_model("runs/calls")
>>> rows = model.predict(["call.wav"])
>>> list(rows[0])
['file', 'duration', 'emotion', 'gender']
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from undertone.experiments.crossval import crossval as crossval
    from undertone.experiments.crossval import train as train
    from undertone.inference.predict import Predictor as Predictor
    from undertone.inference.predict import load_model as load_model
    from undertone.publish.push import push as push
    from undertone.scoring.compare import compare_runs as compare
    from undertone.training.config import RunConfig as RunConfig
    from undertone.upstream import load_upstream as load_upstream

    report: Callable[[str | Path], Path]

__version__ = "0.1.0"
__all__ = [
    "Predictor",
    "RunConfig",
    "compare",
    "crossval",
    "evaluate",
    "export",
    "load_model",
    "load_upstream",
    "push",
    "report",
    "train",
]

_HOMES = {
    "Predictor": "undertone.inference.predict:Predictor",
    "RunConfig": "undertone.training.config:RunConfig",
    "compare": "undertone.scoring.compare:compare_runs",
    "crossval": "undertone.experiments.crossval:crossval",
    "load_model": "undertone.inference.predict:load_model",
    "load_upstream": "undertone.upstream:load_upstream",
    "push": "undertone.publish.push:push",
    "report": "undertone.report",  # the package, which can be called
    "train": "undertone.experiments.crossval:train",
}


def evaluate(
    model: str | Path | Predictor,
    corpus: str,
    root: str | Path | None = None,
    *,
    out: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    label_map: Mapping[str, str] | None = None,
    labels: Sequence[str] = (),
    device: str = "auto",
) -> dict[str, Any]:
    """Score a model on every utterance of a corpus; see `undertone.experiments.evaluate_model.evaluate_model`.

    Args:
        model: a run, a model folder, a Hub id, or what `load_model` gave.
        corpus: name, table, folder, ...
        root: folder of its files; None: the corpus' default.
        out: folder for `results.json` and `predictions.parquet`; None: nothing is written.
        options: of the corpus.
        label_map: {corpus' label: model's label} of the model's first task with classes.
        labels: of that task, the only ones to score and to predict; empty: all.
        device: auto, cpu or cuda.

    Returns:
        the content of results.json.

    Raises:
        ValueError: no such model or corpus, or no label that both know; the message says what to do.

    Example:
        >>> results = undertone.evaluate("runs/quickstart", "calls.csv")
        >>> results["pooled"]["emotion"]["uar"] <= 1
        True
    """
    from undertone.experiments.evaluate_model import evaluate_model
    from undertone.inference.predict import Predictor, load_model

    return evaluate_model(
        (model if isinstance(model, Predictor) else load_model(model)).model,
        corpus,
        Path(root) if root is not None else None,
        device,
        options=options,
        label_map=label_map,
        labels=labels,
        out=Path(out) if out is not None else None,
    )


def export(
    model: str | Path | Predictor, out: str | Path, to: Literal["transformers", "onnx"], task: str | None = None
) -> Path:
    """Export a model for programs without Undertone.

    Args:
        model: a run, a model folder, a Hub id, or what `load_model` gave.
        out: a new folder.
        to: transformers: its own class, of a linear head; onnx: for onnxruntime.
        task: transformers: which task, of several.

    Returns:
        `out`.

    Raises:
        ValueError: a model that cannot be exported, or a folder that is not empty; the message says why.

    Example:
        >>> folder = undertone.export("runs/quickstart", "quickstart-onnx", to="onnx")  # doctest: +SKIP
    """
    if to not in ("transformers", "onnx"):
        raise ValueError(f"to={to!r} is not known: 'transformers' or 'onnx'.")

    from undertone.inference.predict import Predictor, load_model

    loaded = model.model if isinstance(model, Predictor) else load_model(model, device="cpu").model
    if to == "transformers":
        from undertone.hub.to_transformers import to_transformers

        to_transformers(loaded, Path(out), task)
    else:
        from undertone.hub.onnx.to_onnx import to_onnx

        to_onnx(loaded, Path(out))
    return Path(out)


def __getattr__(name: str) -> Any:
    """Import the public names on first use, so that `import undertone` does not pull in torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'undertone' has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(import_module(module), attribute) if attribute else import_module(module)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
