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

SCORE_TABLES = ("titles", "labels", "scores", "recalls", "genders", "corpora")  # of the page, where there are results
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
    licence: str | None = None,
    num_bytes: int | None = None,
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
        licence: the Hub's name of the licence under which the owner publishes the model, such as `cc-by-nc-4.0`.
        num_bytes: size of the model's weights.

    Raises:
        FileNotFoundError: there is no config.json in `model_folder`.
    """
    config = read_json(model_folder / "config.json")
    confusions = {_plain(task["name"]): confusion_file(task["name"]) for task in config["tasks"]}
    config, results = _plain(config), _plain(results or {})
    owner, name = repo_id.split("/")
    adapter, random_upstream = (model_folder / "adapter").is_dir(), _random_upstream(config, results)
    versions = {package: version for package, version in results.get("versions", {}).items() if version}
    shown = next((task for task in config["tasks"] if task["kind"] != "regression"), config["tasks"][0])
    body = render(
        Path(__file__).with_name("card.md.j2"),
        config=config,
        results=results,
        owner=owner,
        name=name,
        repo_id=repo_id,
        own_licence=licence,
        upstream=upstream_name(config),
        upstream_licence=upstream_licence,
        random_upstream=random_upstream,
        layers=_layers(layer_weights),
        head_only=head_only,
        adapter=adapter,
        shown=shown["name"],
        sample=_sample(config["tasks"]),
        sample_rate=read_json(model_folder / "preprocessor_config.json")["sampling_rate"],
        corpus=_corpus_name(results),
        counts=_counts(results),
        citation=_said(results.get("citation")),
        training=_training(config, results),
        costs=_markdown(["", ""], _costs(results, num_bytes)),
        cross_validated=_cross_validated(results),
        confusions={task: file for task, file in confusions.items() if file in pictures},
        **(_score_tables(config, results) if results else dict.fromkeys(SCORE_TABLES, "")),
        layer_picture="layer_weights.png" in pictures,
        versions=versions or {"transformers": config["transformers_version"]},
    )
    metadata = _metadata(config, results, repo_id, random_upstream, adapter, licence)
    return str(ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n{body}"))


def _score_tables(config: Mapping[str, Any], results: Mapping[str, Any]) -> dict[str, Any]:
    """Sections on what was measured; "" for a table without rows."""
    titles, header, rows = results_table(results)
    return {
        "titles": titles[1:],
        "labels": _markdown(["Task", "Class", "Utterances"], _label_counts(config, results)),
        "scores": _markdown(header, rows),
        "recalls": _markdown(["Task", "Class", "Recall"], _recalls(results)),
        "genders": _markdown(*gender_table(results)),
        "corpora": _markdown(*corpus_table(results)),
    }


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
    config: Mapping[str, Any],
    results: Mapping[str, Any],
    repo_id: str,
    random_upstream: bool,
    adapter: bool,
    licence: str | None,
) -> ModelCardData:
    eval_results = _eval_results(results)
    tags = ["undertone", "speech-emotion-recognition", "speech", "emotion"]
    if results and not results.get("speaker_independent"):
        tags.append("speaker-dependent")
    if random_upstream:
        tags.append("random-upstream")
    from_hub = [spec["name"] for spec in upstream_specs(config) if spec.get("commit") and not random_upstream]
    base = from_hub if len(from_hub) > 1 else next(iter(from_hub), None)
    corpus = _corpus_name(results)
    other: dict[str, Any] = (
        {} if licence else {"license_name": "not-chosen", "license_link": f"https://huggingface.co/{repo_id}#licence"}
    )
    return ModelCardData(
        library_name="undertone",
        license=licence or "other",
        **other,
        language=_languages(results) or None,
        datasets=[corpus.removeprefix("hf:")] if corpus else None,
        metrics=list(dict.fromkeys(HUB_METRICS[result.metric_type] for result in eval_results)) or None,
        pipeline_tag="audio-classification",
        tags=tags,
        base_model=base,
        base_model_relation=("adapter" if adapter else "finetune") if base else None,
        model_name=repo_id.split("/")[-1] if eval_results else None,
        eval_results=eval_results or None,
    )


HUB_METRICS = {"uar": "recall", "wa": "accuracy", "macro_f1": "f1", "ece": "ece", "ccc": "ccc", "rmse": "rmse"}
CODES = {
    "amharic": "am", "bangla": "bn", "danish": "da", "english": "en", "french": "fr", "german": "de", "italian": "it",
    "mandarin": "zh", "persian": "fa", "polish": "pl", "urdu": "ur",
}  # fmt: skip  # ISO 639-1
MODES = {
    "frozen": "The upstream was frozen: only the layer sum and the head learned.",
    "finetune": "The upstream was fine-tuned together with the head: its weights are not those of its checkpoint.",
    "lora": "LoRA adapters (PEFT) in the upstream were trained with the head{}.",
}
FEATURES = "The features are computed, not learned: only the head learned."


def _said(text: str | None) -> str | None:
    """What a corpus says of itself; none where that is that there is nothing to say."""
    return None if text is None or text.lower().startswith("none") else text


def _languages(results: Mapping[str, Any]) -> list[str]:
    """Codes of the languages of the corpus, as far as they are known."""
    words = str(results.get("data", {}).get("language") or "").lower().replace(",", " ").split()
    return [CODES[word] for word in words if word in CODES]


def _training(config: Mapping[str, Any], results: Mapping[str, Any]) -> list[str]:
    """Sentences on how the weights came about, of what is recorded."""
    recorded, cost = results.get("training", {}), results.get("cost", {})
    mode = config.get("mode") or recorded.get("mode")
    lines = []
    if all(spec.get("kind") == "class" for spec in upstream_specs(config)):
        lines.append(FEATURES)
    elif mode in MODES:
        apart = config.get("head_only", False)
        lines.append(MODES[mode].format(", and lie beside it" if apart else ", and are merged into its weights"))
    if recorded and results.get("selected_by", {}).get("per_task"):
        lines.append(f"A solver fitted the head to all training utterances at once; seed {recorded['seed']}.")
    elif recorded:
        steps = f", {cost['refit_steps']} updates for this model" if cost.get("refit_steps") else ""
        lines.append(
            f"At most {recorded['max_epochs']} epochs{steps}, learning rate {recorded['learning_rate']:g}, "
            f"batches of {recorded['batch_size']}, seed {recorded['seed']}."
        )
    if (precision := recorded.get("mixed_precision", "no")) != "no":
        lines.append(f"It was trained and scored with mixed_precision={precision}; the model predicts in float32.")
    if recorded:
        lines.append(f"To repeat it: `{recorded['command']}`")
    return lines


def _costs(results: Mapping[str, Any], num_bytes: int | None) -> list[list[str]]:
    """Rows on size and speed, of what was measured."""
    cost = results.get("cost", {})
    rows = []
    if cost.get("parameters"):
        rows.append(["Parameters", f"{cost['parameters']:,}"])
    if cost.get("trained_parameters") is not None:
        rows.append(["of these trained", f"{cost['trained_parameters']:,}"])
    if num_bytes:
        rows.append(["Weights in this repository", f"{num_bytes / 1e6:,.1f} MB"])
    if cost.get("multiply_adds_per_second"):
        rows.append(["Multiply-adds for a second of audio", f"{cost['multiply_adds_per_second'] / 1e6:,.1f} million"])
    if cost.get("real_time_factor"):
        rows.append(["Seconds of work for a second of audio, where it was trained", f"{cost['real_time_factor']:.4f}"])
    return rows


def _label_counts(config: Mapping[str, Any], results: Mapping[str, Any]) -> list[list[str]]:
    """Utterances of each class in the corpus: the rows of the pooled confusion matrices, one test of each and seed.

    None of a single fold, which tests a part of them.
    """
    if not _cross_validated(results):
        return []
    labels = {task["name"]: task["labels"] for task in config["tasks"]}
    seeds = max(1, len(results.get("seeds") or [1]))
    return [
        [task, label, f"{sum(row) // seeds:,}"]
        for task, confusion in (results.get("confusion") or {}).items()
        for label, row in zip(labels.get(task, []), confusion, strict=False)
    ]


def _sample(tasks: Sequence[Mapping[str, Any]]) -> str:
    """What `predict` gives, with numbers that are an example."""
    parts = ['"file": "speech.wav", "duration": 2.1']
    for task in tasks:
        if task["kind"] == "regression":
            value = '{"mean": 0.5, "times": [...], "values": [...]}' if task.get("level") == "frame" else "0.5"
        else:
            first, second, *more = task["labels"]
            rest = ", ..." if more else ""
            value = f'{{"label": "{first}", "scores": {{"{first}": 0.6, "{second}": 0.{"3" if more else "4"}{rest}}}}}'
        parts.append(f'"{task["name"]}": {value}')
    return f"[{{{', '.join(parts)}}}]"


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


def upstream_specs(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The upstream that a config.json describes, or each of several."""
    return config["upstream"].get("streams") or [config["upstream"]]


def upstream_name(config: Mapping[str, Any]) -> str:
    """The Hub id, or the last part of a local folder: a public page must not show local paths."""
    named = [(spec.get("stream"), public_name(spec)) for spec in upstream_specs(config)]
    return "+".join(name if stream in (None, name) else f"{stream}={name}" for stream, name in named)


def public_name(spec: Mapping[str, Any]) -> str:
    """Of one upstream."""
    return spec["name"] if spec.get("commit") else Path(spec["name"]).name


def _corpus_name(results: Mapping[str, Any]) -> str | None:
    """The corpus' name; of a table, the last part of its path."""
    corpus = results.get("corpus")
    return Path(corpus).name if corpus else None


def _counts(results: Mapping[str, Any]) -> str:
    """`535 utterances of 10 speakers`, as far as known."""
    counts = [f"{results[f'num_{what}']} {what}" for what in ("utterances", "speakers") if results.get(f"num_{what}")]
    return " of ".join(counts)


def _random_upstream(config: Mapping[str, Any], results: Mapping[str, Any]) -> bool:
    specs = upstream_specs(config)
    recorded = any(spec.get("config", {}).get("undertone_random_weights", False) for spec in specs)
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
