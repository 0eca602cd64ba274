"""The model card: what the model is and what was measured; a section without content is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from undertone.common.files import read_json, safe_name
from undertone.scoring.by_corpus import corpus_table
from undertone.scoring.pages import render
from undertone.scoring.results import METRICS, gender_table, number, results_table

_MARKUP = str.maketrans("<>`|[]\n\r", "‹›'¦()  ")


def make_card(
    model_folder: Path,
    results: Mapping[str, Any] | None,
    repo_id: str,
    *,
    pictures: Sequence[str] = (),
    upstream_licence: str | None = None,
    head_only: bool = False,
    layer_weights: Sequence[float] = (),
) -> str:
    """README.md of a published model: YAML metadata with a `model-index`, then the page.

    Args:
        model_folder: what `UndertoneModel.save_pretrained` wrote.
        results: the run's `results.json`; None: the card gives no scores.
        repo_id: `user/name` that the page tells readers to load.
        pictures: names of the pictures beside the card: `confusion_TASK.png`, `layer_weights.png`.
        upstream_licence: as the Hub gives it.
        head_only: whether the repository holds no upstream.
        layer_weights: of the model's layer sum.

    Raises:
        FileNotFoundError: there is no config.json in `model_folder`.
    """
    config = read_json(model_folder / "config.json")
    confusions = {_plain(task["name"]): confusion_file(task["name"]) for task in config["tasks"]}
    config = _plain(config)
    preprocessor = read_json(model_folder / "preprocessor_config.json")
    adapter = (model_folder / "adapter").is_dir()
    results = _plain(results or {})
    titles, header, rows = results_table(results) if results else ([], [], [])
    random_upstream = _random_upstream(config, results)
    versions = {name: version for name, version in results.get("versions", {}).items() if version}
    shown = next((task for task in config["tasks"] if task["kind"] != "regression"), config["tasks"][0])
    body = render(
        Path(__file__).with_name("card.md.j2"),
        name=repo_id.split("/")[-1],
        repo_id=repo_id,
        upstream=upstream_name(config),
        upstream_licence=upstream_licence,
        commit=config["upstream"].get("commit"),
        wavlm=config["upstream"].get("config", {}).get("model_type") == "wavlm",
        layers=_layers(layer_weights),
        head=config["head"],
        head_only=head_only or config.get("head_only", False),
        adapter=adapter,
        random_upstream=random_upstream,
        tasks=config["tasks"],
        shown=shown["name"],
        sample_rate=preprocessor["sampling_rate"],
        corpus=_corpus_name(results),
        variant=results.get("corpus_variant"),
        counts=_counts(results),
        licence=results.get("licence"),
        citation=results.get("citation"),
        titles=titles[1:],
        cross_validated=_cross_validated(results),
        scores=_markdown(header, rows),
        recalls=_markdown(["Task", "Class", "Recall"], _recalls(results)) if results else "",
        confusions={task: name for task, name in confusions.items() if name in pictures},
        genders=_markdown(*gender_table(results)) if results else "",
        corpora=_markdown(*corpus_table(results)) if results else "",
        layer_picture="layer_weights.png" in pictures,
        versions=versions or {"transformers": config["transformers_version"]},
    )
    metadata = _metadata(config, results, repo_id, random_upstream, adapter)
    return str(ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n{body}"))


def _plain(value: Any) -> Any:
    """JSON without markup in its text: a label may be anything, and a card is read by others."""
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.translate(_MARKUP) if isinstance(value, str) else value


def only_layer(layer_weights: Sequence[float]) -> int | None:
    """The one layer of several that has all the weight, as in a run with `layers=N`; None if there is none."""
    found = [layer for layer, weight in enumerate(layer_weights) if weight > 0]
    return found[0] if len(found) == 1 < len(layer_weights) else None


def _layers(layer_weights: Sequence[float]) -> str:
    if len(layer_weights) < 2:
        return ""
    layer = only_layer(layer_weights)
    return ", a learned weighted sum of its layers" if layer is None else f", its layer {layer}"


def confusion_file(task: str) -> str:
    """Name of the picture of a task's confusion matrix; no two tasks share one."""
    return f"confusion_{safe_name(task, safe='').replace('%', '=')}.png"  # `safe_name` leaves no =; a link may hold it


def _metadata(
    config: Mapping[str, Any], results: Mapping[str, Any], repo_id: str, random_upstream: bool, adapter: bool
) -> ModelCardData:
    eval_results = _eval_results(results)
    tags = ["undertone", "speech-emotion-recognition", "speech", "emotion"]
    if results and not results.get("speaker_independent"):
        tags.append("speaker-dependent")
    if random_upstream:
        tags.append("random-upstream")
    base = upstream_name(config) if _from_hub(config) and not random_upstream else None
    return ModelCardData(
        library_name="undertone",
        pipeline_tag="audio-classification",
        tags=tags,
        base_model=base,
        base_model_relation=("adapter" if adapter else "finetune") if base else None,
        model_name=repo_id.split("/")[-1] if eval_results else None,
        eval_results=eval_results or None,
    )


def _eval_results(results: Mapping[str, Any]) -> list[EvalResult]:
    corpus = _corpus_name(results) or "unnamed"
    dependent = "" if results.get("speaker_independent") else " (speaker-dependent)"
    over_folds = ", all folds pooled" if _cross_validated(results) else ""
    return [
        EvalResult(
            task_type="audio-classification",
            task_name="Speech emotion recognition",
            dataset_type=corpus,
            dataset_name=corpus + dependent,
            dataset_split="test",
            metric_type=metric,
            metric_name=f"{task}: {name}{over_folds}",
            metric_value=round(scores[metric], 6),
        )
        for task, scores in results.get("pooled", {}).items()
        for metric, name in METRICS.items()
        if scores.get(metric) is not None
    ]


def upstream_name(config: Mapping[str, Any]) -> str:
    """The Hub id, or the last part of a local folder: a public page must not show local paths."""
    name = config["upstream"]["name"]
    return name if _from_hub(config) else Path(name).name


def _corpus_name(results: Mapping[str, Any]) -> str | None:
    """The corpus' name; of a table, the last part of its path."""
    corpus = results.get("corpus")
    return Path(corpus).name if corpus else None


def _counts(results: Mapping[str, Any]) -> str:
    """`535 utterances of 10 speakers`, as far as known."""
    counts = [f"{results[f'num_{what}']} {what}" for what in ("utterances", "speakers") if results.get(f"num_{what}")]
    return " of ".join(counts)


def _from_hub(config: Mapping[str, Any]) -> bool:
    return bool(config["upstream"].get("commit"))


def _random_upstream(config: Mapping[str, Any], results: Mapping[str, Any]) -> bool:
    recorded = config["upstream"].get("config", {}).get("undertone_random_weights", False)
    return recorded or results.get("upstream_weights") == "random"


def _cross_validated(results: Mapping[str, Any]) -> bool:
    """Whether the scores are those of several folds' models, not of the published model."""
    return len(results.get("folds", [])) > 1


def _recalls(results: Mapping[str, Any]) -> list[list[str]]:
    recalls = {task: scores["recall"] for task, scores in results["pooled"].items() if "recall" in scores}
    return [
        [task, label, number("recall", value)]
        for task, recall in recalls.items()
        for label, value in recall.items()
        if value is not None
    ]


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; nothing for no rows."""
    lines = [header, ["---"] * len(header), *rows] if rows else []
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
