"""A model as transformers' own class: it then predicts with transformers alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import (
    MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING,
    FeatureExtractionMixin,
    PreTrainedConfig,
    PreTrainedModel,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2FeatureExtractor,
)
from transformers.initialization import no_init_weights

from undertone.common.discovery import nearest
from undertone.common.files import new_folder
from undertone.downstream.heads.linear import LinearHead
from undertone.downstream.model import UndertoneModel
from undertone.downstream.task import Task
from undertone.upstream.hf.pretrained import quiet_transformers
from undertone.upstream.hf.upstream import FamilyUpstream
from undertone.upstream.types import ALONE

# Their pooling in transformers takes a mask at the frame rate before the squeezing, which the states no longer have;
# given none it is the mean over a clip's own frames.
_WITHOUT_MASK = ("sew", "sew-d")
_OTHERWISE = (
    "What works: a model of `--head linear` on a Hugging Face upstream, without layer_norm. This one is exported whole "
    "with `--to onnx`, and its own folder works in transformers' pipeline after `import undertone.hub`."
)


@dataclass(frozen=True)
class NativeModel:
    """What `to_transformers` made.

    Attributes:
        folder: config.json, model.safetensors, preprocessor_config.json.
        class_name: transformers' class: `Wav2Vec2ForSequenceClassification`, ...
        task: what it predicts.
        left_out: the model's other tasks; transformers' class has one.
        exact_in_batches: whether padding keeps out there as it does here; if not, give it one clip at a time.
    """

    folder: Path
    class_name: str
    task: str
    left_out: tuple[str, ...]
    exact_in_batches: bool


def to_transformers(model: UndertoneModel, folder: str | Path, task: str | None = None) -> NativeModel:
    """Write a model as transformers' `*ForSequenceClassification` with `use_weighted_layer_sum`.

    Layer sum, linear layer, mean over the frames, linear layer: that class computes exactly the head `linear`.

    Args:
        model: any; refused if its head has another shape.
        folder: a new folder.
        task: which of the model's tasks; None: the one that `UndertoneModel.forward` gives.

    Raises:
        ValueError: the head or the upstream has no native shape, no such task, or the folder is not empty.
    """
    head, chosen = _native_head(model), _choose(model, task)
    upstream = _native_upstream(model)
    config = _config(upstream.model.config, head.projector.out_features, chosen)
    native_class: Any = MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING[type(config)]
    with no_init_weights():
        native: PreTrainedModel = native_class(config)
    native.load_state_dict(_state(model, upstream, head, chosen, native.base_model_prefix))
    with new_folder(Path(folder)) as draft, quiet_transformers():
        native.save_pretrained(draft)
        _feature_extractor(upstream).save_pretrained(draft)
        (draft / "README.md").write_text(_card(model, native, chosen, not upstream.masks_padding), encoding="utf-8")
    left_out = tuple(other.name for other in model.tasks if other.name != chosen.name)
    return NativeModel(Path(folder), type(native).__name__, chosen.name, left_out, not upstream.masks_padding)


CARD = """---
library_name: transformers
pipeline_tag: audio-classification
license: other
license_name: not-chosen
tags: [speech-emotion-recognition, undertone]
---

# {class_name} for {task}

A speech emotion recognition model of Undertone, exported for transformers alone; the upstream is `{upstream}`.

```python
from transformers import pipeline

print(pipeline("audio-classification", model="FOLDER_OR_HUB_ID")("speech.wav"))
```

- It gives {gives}.
- {batches}
- It takes one channel at {rate} Hz; the pipeline reads files with ffmpeg, and converts them.

The model predicts how people label a voice, not what the speaker feels, and it predicts something for any audio. Test
it on your own recordings first; do not judge people by it.
"""
EXACT = "Padding changes nothing: batches of any lengths may be padded, with the attention mask."
NOT_EXACT = (
    "**Give it one clip at a time, without padding** (`batch_size=1`): transformers lets the padding of a batch reach "
    "the clips of this family, whose scores then change, without a warning. Undertone's own models keep it out."
)


def _card(model: UndertoneModel, native: PreTrainedModel, task: Task, exact: bool) -> str:
    """What must be known of an exported model where nothing of ours is installed."""
    spec = model.config.upstream
    if task.has_classes:
        gives = f"one of {', '.join(task.labels)}"
    else:
        gives = f"a value, `{task.name}`; transformers cuts nothing off, so that it may exceed the scale of its labels"
    return CARD.format(
        class_name=type(native).__name__,
        task=task.name,
        upstream=spec["name"] if spec.get("commit") else Path(spec["name"]).name,
        gives=gives,
        batches=EXACT if exact else NOT_EXACT,
        rate=model.sample_rate,
    )


def _native_head(model: UndertoneModel) -> LinearHead:
    head = model.downstream.head
    if type(head) is not LinearHead:
        raise ValueError(f"Head {model.config.head!r} has no native shape in transformers. {_OTHERWISE}")
    if any(one.normalize for one in model.downstream.layer_sums.values()):
        raise ValueError(f"transformers' layer sum does not normalise layers, this model's does. {_OTHERWISE}")
    return head


def _native_upstream(model: UndertoneModel) -> FamilyUpstream:
    upstream = model.upstream
    classes = MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING
    if not isinstance(upstream, FamilyUpstream) or type(upstream.model.config) not in classes:
        raise ValueError(f"Upstream {upstream.name!r} is no class of transformers that classifies. {_OTHERWISE}")
    if upstream.model.config.model_type == "whisper":
        raise ValueError(
            "transformers' WhisperForAudioClassification averages over all frames of its 30 s, the padding included, "
            f"and takes no mask, this model over the clip's own. {_OTHERWISE}"
        )
    return upstream


def _choose(model: UndertoneModel, name: str | None) -> Task:
    tasks = {task.name: task for task in model.tasks}
    name = model.config.shown_task if name is None else name
    if name not in tasks:
        raise ValueError(f"This model has no task {name!r}.{nearest(name, tasks)}")
    return tasks[name]


def _config(base: PreTrainedConfig, proj_size: int, task: Task) -> PreTrainedConfig:
    """The upstream's config as its own class, with what the head adds."""
    labels = dict(enumerate(task.labels))
    added = {
        "use_weighted_layer_sum": True,
        "classifier_proj_size": proj_size,
        "id2label": labels,
        "label2id": {label: index for index, label in labels.items()},
        "problem_type": "single_label_classification" if task.has_classes else "regression",
    }
    return type(base).from_dict(base.to_dict() | added)


def _state(
    model: UndertoneModel, upstream: FamilyUpstream, head: LinearHead, task: Task, prefix: str
) -> dict[str, Tensor]:
    state = {f"{prefix}.{name}": value for name, value in upstream.model.state_dict().items()}
    state["layer_weights"] = model.downstream.layer_sums[ALONE].logits.detach()
    layers: dict[str, Any] = {"projector": head.projector, "classifier": head.outputs.layer(task.name)}
    state |= {f"{name}.{key}": value for name, layer in layers.items() for key, value in layer.state_dict().items()}
    temperature = model.downstream.temperatures.get(task.name, 1.0)
    return state | {key: value / temperature for key, value in state.items() if key.startswith("classifier.")}


def _feature_extractor(upstream: FamilyUpstream) -> FeatureExtractionMixin:
    if upstream.family.normalizes is None:  # fed with filterbanks
        return SeamlessM4TFeatureExtractor(sampling_rate=upstream.sample_rate)
    return Wav2Vec2FeatureExtractor(
        sampling_rate=upstream.sample_rate,
        do_normalize=upstream.do_normalize,
        return_attention_mask=upstream.model.config.model_type not in _WITHOUT_MASK,
    )
