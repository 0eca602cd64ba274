"""The model card: what the model is, and what was measured; a section is there only if there is something in it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from undertone.common.files import read_json
from undertone.scoring.results import intervals_line

METRIC_NAMES = {"uar": "UAR", "wa": "WA", "macro_f1": "macro-F1", "ece": "ECE", "ccc": "CCC", "rmse": "RMSE"}
_MARKUP = str.maketrans("<>`|[]\n\r", "‹›'¦()  ")
IN_PERCENT = ("uar", "wa", "macro_f1", "ece", "recall")

Scores = Mapping[str, Mapping[str, Any]]
"""{task: {metric: value}}"""


def make_card(
    model_folder: Path,
    results: Mapping[str, Any] | None,
    repo_id: str,
    *,
    pictures: Sequence[str] = (),
    upstream_licence: str | None = None,
    head_only: bool = False,
    layer: int | None = None,
) -> str:
    """README.md of a published model: YAML metadata with a `model-index`, then the page.

    Args:
        model_folder: what `UndertoneModel.save_pretrained` wrote.
        results: the run's `results.json`; None: the card gives no scores.
        repo_id: `user/name` that the page tells readers to load.
        pictures: names of the pictures beside the card: `confusion_TASK.png`, `layer_weights.png`.
        upstream_licence: as the Hub says it.
        head_only: whether the upstream is left out of what is published.
        layer: the only one that the model takes; None: the weighted sum of all.

    Raises:
        FileNotFoundError: there is no config.json in `model_folder`.
    """
    config = _plain(read_json(model_folder / "config.json"))
    preprocessor = read_json(model_folder / "preprocessor_config.json")
    adapter = (model_folder / "adapter").is_dir()
    results = {key: value for key, value in _plain(results or {}).items() if value is not None}
    random_upstream = _random_upstream(config, results)
    versions = {name: version for name, version in results.get("versions", {}).items() if version}
    confusions = {task["name"]: confusion_file(task["name"]) for task in config["tasks"]}
    shown = next((task for task in config["tasks"] if task["kind"] != "regression"), config["tasks"][0])
    body = _template().render(
        name=repo_id.split("/")[-1],
        repo_id=repo_id,
        upstream=upstream_name(config),
        upstream_licence=upstream_licence,
        commit=config["upstream"].get("commit"),
        wavlm=config["upstream"].get("config", {}).get("model_type") == "wavlm",
        layers="a learned weighted sum of its layers" if layer is None else f"its layer {layer}",
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
        protocol=_protocol(results),
        cross_validated=_cross_validated(results),
        mixture=results.get("hidden_states") == "mixture",
        scores=_scores_table(results),
        interval=_interval(results),
        interval_notes=results.get("ci_notes", []),
        recalls=_recall_table(results.get("pooled", {})),
        confusions={task: name for task, name in confusions.items() if name in pictures},
        genders=_gender_table(results.get("per_gender", {})),
        layer_weights="layer_weights.png" in pictures,
        versions=versions or {"transformers": config["transformers_version"]},
    )
    metadata = _metadata(config, results, repo_id, random_upstream, adapter)
    return str(ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n{body}"))


def _plain(value: Any) -> Any:
    """JSON in which no text is markup: a label may be anything, and a card is read by others."""
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.translate(_MARKUP) if isinstance(value, str) else value


def confusion_file(task: str) -> str:
    """Name of the picture of a task's confusion matrix."""
    return f"confusion_{re.sub(r'[^0-9A-Za-z-]', '_', task)}.png"


def _template() -> Any:
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(  # a card is Markdown, not HTML; `_plain` has taken the markup out of names
        loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.get_template("card.md.j2")


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
            metric_name=f"{task}: {METRIC_NAMES.get(metric, metric)}{over_folds}",
            metric_value=round(value, 6),
        )
        for task, metric, value in _numbers(results.get("pooled", {}))
    ]


def upstream_name(config: Mapping[str, Any]) -> str:
    """The Hub id, or the last part of a local folder: nobody's home directory belongs on a public page."""
    name = config["upstream"]["name"]
    return name if _from_hub(config) else Path(name).name


def _corpus_name(results: Mapping[str, Any]) -> str | None:
    """A corpus' name, or the last part of the path of a table of the user's own."""
    corpus = results.get("corpus")
    return Path(corpus).name if corpus else None


def _counts(results: Mapping[str, Any]) -> str:
    """`535 utterances of 10 speakers`, as far as it is known."""
    counts = [f"{results[f'num_{what}']} {what}" for what in ("utterances", "speakers") if results.get(f"num_{what}")]
    return " of ".join(counts)


def _from_hub(config: Mapping[str, Any]) -> bool:
    return bool(config["upstream"].get("commit"))


def _random_upstream(config: Mapping[str, Any], results: Mapping[str, Any]) -> bool:
    recorded = config["upstream"].get("config", {}).get("undertone_random_weights", False)
    return recorded or results.get("upstream_weights") == "random"


def _cross_validated(results: Mapping[str, Any]) -> bool:
    """Whether the scores are those of several folds, and this model's own are not known."""
    return len(results.get("folds", [])) > 1


def _protocol(results: Mapping[str, Any]) -> str:
    folds = len(results.get("folds", []))
    count = f", {folds} folds" if folds > 1 else ""
    name = results.get("protocol") or "not named"
    if results.get("speaker_independent"):
        return f"Protocol: {name}{count}, speaker-independent: no test speaker was heard in training or tuning."
    return (
        f"**SPEAKER-DEPENDENT.** Protocol: {name}{count}. Speakers of the test part may have been heard in training: "
        f"the scores are higher than they would be on strangers, and do not compare with speaker-independent ones."
    )


def _interval(results: Mapping[str, Any]) -> str | None:
    """How the intervals were made; None where there are none."""
    if not results.get("ci95") or "ci_unit" not in results:
        return None
    return intervals_line(results) or None


def _scores_table(results: Mapping[str, Any]) -> str:
    mean, std, pooled, chance, interval = (results.get(key, {}) for key in ("mean", "std", "pooled", "chance", "ci95"))
    keys = dict.fromkeys((task, metric) for scores in (mean, pooled) for task, metric, _ in _numbers(scores))
    rows = []
    for task, metric in _in_order(keys):
        low, high = (interval.get(task, {}).get(metric) or [None, None])[:2]
        center, spread, whole, blind, low, high = (
            _text(metric, value)
            for value in (*(scores.get(task, {}).get(metric) for scores in (mean, std, pooled, chance)), low, high)
        )
        folds = f"{center} ± {spread}" if center and spread else center
        rows.append(
            [task, METRIC_NAMES.get(metric, metric), folds, whole, f"{low} – {high}" if low and high else "", blind]
        )
    if not _cross_validated(results):  # one fold's scores are no means, and pooled they are the same
        rows = [[task, metric, whole or folds, "", *others] for task, metric, folds, whole, *others in rows]
        return _markdown(["Task", "Metric", "Test", "", "95 % interval", "Chance"], rows)
    rows = [[task, metric, whole, interval, folds, blind] for task, metric, folds, whole, interval, blind in rows]
    return _markdown(["Task", "Metric", "Pooled", "95 % interval", "Mean over folds ± std", "Chance"], rows)


def _recall_table(pooled: Scores) -> str:
    recalls = {
        task: metrics["recall"] for task, metrics in pooled.items() if isinstance(metrics.get("recall"), Mapping)
    }
    rows = [
        [task, label, _text("recall", value)] for task, recall in recalls.items() for label, value in recall.items()
    ]
    return _markdown(["Task", "Class", "Recall"], [row for row in rows if row[-1]])


def _gender_table(per_gender: Mapping[str, Scores]) -> str:
    keys = dict.fromkeys((task, metric) for scores in per_gender.values() for task, metric, _ in _numbers(scores))
    rows = [
        [task, METRIC_NAMES.get(metric, metric)]
        + [_text(metric, scores.get(task, {}).get(metric)) for scores in per_gender.values()]
        for task, metric in _in_order(keys)
    ]
    return _markdown(["Task", "Metric", *per_gender], rows)


def _numbers(scores: Scores) -> Iterable[tuple[str, str, float]]:
    """(task, metric, value) of each finite score; counts and values per class are not scores."""
    for task, metrics in scores.items():
        for metric, value in metrics.items():
            if metric != "num" and _finite(value):
                yield task, metric, float(value)


def _finite(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _in_order(keys: Mapping[tuple[str, str], None]) -> list[tuple[str, str]]:
    """(task, metric) task by task as they come, of each task UAR first."""
    tasks = list(dict.fromkeys(task for task, _ in keys))
    metrics = list(METRIC_NAMES)
    rank = {metric: metrics.index(metric) if metric in metrics else len(metrics) for _, metric in keys}
    return sorted(keys, key=lambda key: (tasks.index(key[0]), rank[key[1]]))


def _text(metric: str, value: object) -> str:
    """0.7123 -> `71.2` for a share, `0.712` for CCC and RMSE; nothing where nothing was measured."""
    if not _finite(value):
        return ""
    return f"{100 * value:.1f}" if metric in IN_PERCENT else f"{value:.3f}"


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table without its empty columns; nothing for no rows."""
    kept = [column for column in range(len(header)) if any(row[column] for row in rows)]
    if not kept:
        return ""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line[column] for column in kept) + " |" for line in lines)
