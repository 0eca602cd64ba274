"""The files of a run or a model folder that are published."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from undertone.common.files import atomic_path, read_record
from undertone.common.hub_client import PUBLISHED, local_model
from undertone.downstream.speaker_hashes import hash_speakers
from undertone.publish.card import confusion_file, make_card, only_layer, public_name, upstream_name, upstream_specs
from undertone.scoring.plots import confusion_png, layer_weights_png

WEIGHTS = "model.safetensors"
PRETRAINING = "pretraining.json"  # of an upstream that `undertone pretrain` made
ADAPTER_RUN = "adapter"  # RUN/adapter, beside RUN/model: the same training, its adapters not merged
SCORES = ("pooled", "mean", "std", "ci95", "chance", "per_gender")  # keys of results.json that the card needs
NOT_PUBLISHED = ("warnings", "commands")  # keys of results.json that name files

Files = dict[str, Path | bytes]
"""{path in the repository: a local file, or its content}"""


def collect(
    folder: Path,
    repo_id: str,
    *,
    head_only: bool = False,
    upstream_licence: str | None = None,
    speaker_names: bool = False,
    licence: str | None = None,
) -> Files:
    """The files of a published model: weights, configs, results, pictures and the card that shows them.

    Args:
        folder: a run, a model folder, or an upstream of `undertone pretrain`.
        repo_id: `user/name` that the card tells readers to load.
        head_only: leave the upstream out and name its Hub id and commit; a LoRA run's adapters are included.
        upstream_licence: for the card.
        speaker_names: keep the names of speakers; False: they are hashed (`hash_speakers`), and folds, which are often
            named after their test speaker, are numbered.
        licence: that the owner chose for the model, for the card.

    Raises:
        ValueError: there is no model, its upstream cannot be left out, or results.json is damaged.
    """
    model = head_only_model(folder) if head_only else local_model(folder)
    if (model / PRETRAINING).is_file():
        return _pretrained(model, repo_id, licence)
    files: Files = {
        path.relative_to(model).as_posix(): path for pattern in PUBLISHED for path in sorted(model.rglob(pattern))
    }
    config = read_record(model / "config.json", upstream=dict)
    if any(spec["kind"] == "hf" for spec in upstream_specs(config)):
        config["upstream"] = _without_paths(config)
        if head_only and not config["head_only"]:
            config["head_only"] = True
            files[WEIGHTS] = _without_upstream(model / WEIGHTS)
    if not speaker_names and "speakers" in config.get("trained_on", {}):
        config["trained_on"] = _without_speakers(config["trained_on"])
    files["config.json"] = _json(config)
    for spec in upstream_specs(config):
        name = "/".join(filter(None, ("adapter", spec.get("stream"), "adapter_config.json")))
        if name in files:
            base = {"base_model_name_or_path": public_name(spec), "revision": spec.get("commit")}
            files[name] = _json(read_record(model / name) | base)
    results = _results(folder, config)
    if results is not None and not speaker_names:
        results = _without_fold_names(results)
    if results is not None:
        files["results.json"] = _json(results)
    files |= (pictures := _pictures(model, results))
    files["README.md"] = make_card(
        model,
        results,
        repo_id,
        pictures=tuple(pictures),
        upstream_licence=upstream_licence,
        head_only=config.get("head_only", False),
        layer_weights=layer_weights(model / WEIGHTS),
        licence=licence,
        num_bytes=sum(_size(content) for name, content in files.items() if name.endswith(".safetensors")),
    ).encode()
    return files


def _pretrained(folder: Path, repo_id: str, licence: str | None) -> Files:
    """The files of an upstream of `undertone pretrain`, which are private in nothing but its record's paths."""
    files: Files = {path.name: path for pattern in (*PUBLISHED, "*.png") for path in sorted(folder.glob(pattern))}
    record = read_record(folder / PRETRAINING, settings=dict)
    settings = record["settings"]
    for name in ("corpora", "roots"):
        settings[name] = [Path(path).name for path in settings[name]]
    if settings["upstream"] and Path(settings["upstream"]).exists():
        settings["upstream"] = Path(settings["upstream"]).name
    files[PRETRAINING] = _json(record)
    card = (folder / "README.md").read_text(encoding="utf-8").replace("FOLDER", repo_id)
    files["README.md"] = card.replace("---\n", f"---\nlicense: {licence}\n" if licence else "---\n", 1).encode()
    return files


def _without_paths(config: Mapping[str, Any]) -> dict[str, Any]:
    """The upstream without local paths, which are private, and which loading does not need."""
    specs = [
        {**spec, "name": public_name(spec) if spec["kind"] == "hf" else spec["name"]} for spec in upstream_specs(config)
    ]
    if "streams" not in config["upstream"]:
        return specs[0]
    return {**config["upstream"], "name": upstream_name(config), "streams": specs}


def _size(content: Path | bytes) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def write_folder(files: Mapping[str, Path | bytes], folder: Path) -> None:
    """Write what `collect` returned; an existing folder is replaced."""
    with atomic_path(folder) as draft:
        for name, content in files.items():
            path = draft / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.read_bytes())


def head_only_model(folder: Path) -> Path:
    """The model folder of a run or a model folder, from which the upstream can be left out.

    Raises:
        ValueError: the upstream was trained or is a local folder, or it is not known whether it was trained.
    """
    if (folder / PRETRAINING).is_file():
        raise ValueError(f"{folder} is an upstream and has no head. Push it without --head-only.")
    if (folder / ADAPTER_RUN / "config.json").is_file():
        return _with_hub_upstream(folder / ADAPTER_RUN)
    model = local_model(folder)
    config = read_record(model / "config.json", upstream=dict)
    if config.get("head_only"):
        return _with_hub_upstream(model)
    run_config = folder / "config.json"
    if model == folder or not run_config.is_file():
        raise ValueError(
            f"{folder} holds a whole model, which does not say whether its upstream was trained. For --head-only give "
            f"the RUN that trained it."
        )
    several = "streams" in config["upstream"]  # each of which may have a mode of its own
    mode = config.get("mode") if several else read_record(run_config).get("mode", "frozen")
    if mode != "frozen":
        raise ValueError(
            f"This run was trained with mode={mode}, so its upstream is part of the model. Push it without --head-only."
        )
    return _with_hub_upstream(model)


def _with_hub_upstream(model: Path) -> Path:
    for upstream in upstream_specs(read_record(model / "config.json", upstream=dict)):
        if upstream["kind"] == "hf" and not upstream.get("commit"):
            raise ValueError(
                f"The upstream {Path(upstream['name']).name!r} is not on the Hub, where others could find it. Push the "
                f"model without --head-only."
            )
    return model


def _without_upstream(weights: Path) -> bytes:
    from safetensors import safe_open
    from safetensors.numpy import save

    with safe_open(weights, framework="numpy") as tensors:
        kept = {name: tensors.get_tensor(name) for name in tensors.keys() if not name.startswith("upstream.")}
    return save(kept, metadata={"format": "pt"})


def _results(folder: Path, config: Mapping[str, Any]) -> dict[str, Any] | None:
    if not (folder / "results.json").is_file():
        return None
    results = read_record(folder / "results.json", folds=list, tasks=list, **dict.fromkeys(SCORES, dict))
    return {key: value for key, value in results.items() if key not in NOT_PUBLISHED} | {
        "upstream": upstream_name(config)
    }


def _without_speakers(trained_on: Mapping[str, Any]) -> dict[str, Any]:
    """`trained_on` with the number and the hashes of its speakers instead of their names."""
    names = trained_on["speakers"]
    hashes = sorted(hash_speakers(names, str(trained_on.get("manifest_hash"))))  # an order that reveals nothing
    kept = {key: value for key, value in trained_on.items() if key != "speakers"}
    return kept | {"num_speakers": len(names), "speaker_hashes": hashes}


def _without_fold_names(results: Mapping[str, Any]) -> dict[str, Any]:
    """Results whose folds are named `fold 1`, ..., and whose warnings give the folds' numbers."""
    numbers = {str(fold["name"]): place for place, fold in enumerate(results["folds"], 1)}
    numbered = {name: f"fold {place}" for name, place in numbers.items()}
    found = {**results, "folds": [fold | {"name": numbered[str(fold["name"])]} for fold in results["folds"]]}
    if found.get("label_warnings"):
        names = "|".join(re.escape(name) for name in sorted(numbers, key=len, reverse=True))
        pattern = re.compile(rf"(?<!\w)(?:{names})(?!\w)")
        found["label_warnings"] = [
            pattern.sub(lambda match: str(numbers[match[0]]), line) for line in found["label_warnings"]
        ]
    if found.get("sweep"):
        chosen = {numbered.get(name, name): value for name, value in found["sweep"]["chosen"].items()}
        found["sweep"] = found["sweep"] | {"chosen": chosen}
    return found


def _pictures(model: Path, results: Mapping[str, Any] | None) -> dict[str, bytes]:
    """{file name: PNG} of what was measured."""
    pictures: dict[str, bytes] = {}
    tasks = {task["name"]: task for task in read_record(model / "config.json", tasks=list)["tasks"]}
    for name, confusion in ((results or {}).get("confusion") or {}).items():
        if name in tasks and any(map(any, confusion)):
            pictures[confusion_file(name)] = confusion_png(tasks[name]["labels"], confusion)
    weights = layer_weights(model / WEIGHTS)
    if len(weights) > 1 and only_layer(weights) is None:
        pictures["layer_weights.png"] = layer_weights_png(weights)
    return pictures


def layer_weights(weights: Path) -> list[float]:
    """The (L,) softmaxed layer weights of a saved model; empty if it has no layer sum, or one for each stream."""
    import numpy as np
    from safetensors import safe_open

    name = "downstream.layer_sum.logits"
    with safe_open(weights, framework="numpy") as tensors:
        if name not in tensors.keys():
            return []
        logits = tensors.get_tensor(name)  # (L,)
    powers = np.exp(logits - logits.max())
    return [float(value) for value in powers / powers.sum()]


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
