"""Any audio-classification model of transformers, with what prediction and evaluation ask of an `UndertoneModel`."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard, hf_hub_download
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoFeatureExtractor,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from undertone.common.discovery import nearest
from undertone.downstream.config import UndertoneConfig
from undertone.downstream.head import HeadOutput
from undertone.downstream.task import Task
from undertone.upstream.hf.extractor import longest_seconds
from undertone.upstream.hf.limits import as_sentence, check_sample_rate, check_settings
from undertone.upstream.hf.pretrained import MASK_EMBEDDING, quiet_transformers, read_weights
from undertone.upstream.precision import LIMIT, PROBES, check_available, keep, probe_noise
from undertone.upstream.types import ALONE, WaveBatch

# ---- A head that is not of transformers, but of many published emotion models: linear, tanh, linear.
#
# audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim (Wagner et al., TPAMI 2023), with its three dimensions, and the
# models that were trained with the same script, with classes, say `Wav2Vec2ForSpeechClassification`. transformers'
# own class would leave their head out and draw a new one.

DENSE = {"classifier.dense.weight", "classifier.dense.bias", "classifier.out_proj.weight", "classifier.out_proj.bias"}
POOLINGS = ("mean", "sum", "max")


class DenseHead(nn.Module):
    """(B, D) -> linear, tanh, linear -> (B, C)."""

    def __init__(self, size: int, num_outputs: int) -> None:
        super().__init__()
        self.dense, self.out_proj = nn.Linear(size, size), nn.Linear(size, num_outputs)

    def forward(self, pooled: Tensor) -> Tensor:
        """(B, D) -> (B, C)."""
        return self.out_proj(self.dense(pooled).tanh())


def with_dense_head(native: type[PreTrainedModel], config: PreTrainedConfig) -> type[PreTrainedModel]:
    """The class of transformers with that head on its last hidden states, pooled over time as the config says."""
    pooling = getattr(config, "pooling_mode", "mean")
    if pooling not in POOLINGS:
        raise ValueError(f"pooling_mode={pooling!r} in config.json; the known ones are {', '.join(POOLINGS)}.")
    base: Any = native

    class WithDenseHead(base):
        """See `with_dense_head`."""

        def __init__(self, config: PreTrainedConfig) -> None:
            super().__init__(config)
            del self.projector
            self.classifier = DenseHead(config.hidden_size, int(config.num_labels or 0))

        def forward(self, input_values: Tensor, attention_mask: Tensor | None = None) -> SequenceClassifierOutput:
            """(B, N) -> (B, C); clips come without padding."""
            states = self.base_model(input_values, attention_mask=attention_mask).last_hidden_state  # (B, T, D)
            pooled = states.amax(1) if pooling == "max" else getattr(states, pooling)(1)  # (B, D)
            return SequenceClassifierOutput(logits=self.classifier(pooled))

    return WithDenseHead


# ---- Any audio-classification model of transformers.

DIMENSIONS = ("arousal", "valence", "dominance")
GENDERS = {"female", "male"}
EMOTIONS = ("ang", "hap", "joy", "sad", "neu", "cal", "fea", "dis", "sur")  # how the usual labels begin
MIN_SECONDS = 0.05  # a shorter clip is filled with zeros: no family makes a frame of much less


class TransformersModel(nn.Module):
    """A model of transformers that classifies audio or gives dimensions; see `from_pretrained`.

    Each clip goes through the model's own feature extractor, alone. Clips whose inputs have one shape then share a
    forward, others do not: nothing is padded, so that no clip depends on what shares its batch.

    Attributes:
        model: of transformers, in eval mode and float32.
        extractor: its feature extractor.
        name: Hub id or folder.
        tasks: one of classes, or one for each dimension.
        max_seconds: the longest clip; its extractor would cut a longer one without a word.
    """

    sees, precision = False, "no"  # as of an `Upstream`

    def __init__(self, model: PreTrainedModel, extractor: Any, name: str, card: ModelCard | None = None) -> None:
        super().__init__()
        self.model, self.extractor, self.name, self.card = model.eval(), extractor, name, card
        self.config = UndertoneConfig()  # nothing is known of its training: no calibration, no limit to speech
        self.sample_rate = check_sample_rate(name, extractor.sampling_rate)
        self.max_seconds = longest_seconds(extractor)
        self.tasks, self._columns = _tasks(name, model.config)

    @classmethod
    def from_pretrained(cls, name: str | Path, revision: str | None = None) -> TransformersModel:
        """Config, weights and feature extractor of a Hub id or folder; no code from there is run.

        Raises:
            ValueError: the model is of another kind, which the message names, has no classifier, or does not load.
        """
        name = str(name)
        with quiet_transformers(), as_sentence(f"Cannot read config.json of {name!r}"):
            raw, _ = PreTrainedConfig.get_config_dict(name, revision=revision)
        native = _native_class(name, raw)
        check_settings(name, raw)
        with quiet_transformers(), as_sentence(f"Cannot load the model {name!r}"):
            config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
            if "tie_last_hidden_states" not in raw and not str(raw.get("transformers_version", "")).startswith("5"):
                config.tie_last_hidden_states = True  # the layers that transformers 4 summed: the last one normed
            model, info = read_weights(native, name, revision, config)
            if DENSE <= set(info["unexpected_keys"]):
                model, info = read_weights(with_dense_head(native, config), name, revision, config)
        _check_weights(name, raw, info)
        with (
            quiet_transformers(),
            as_sentence(
                f"Cannot read preprocessor_config.json of {name!r}", "It says how the model is fed; copy it there."
            ),
        ):
            extractor = AutoFeatureExtractor.from_pretrained(name, revision=revision, trust_remote_code=False)
        return cls(model, extractor, name, _card(name, revision))

    @property
    def upstream(self) -> Any:
        """Itself: it has the name, the rate and the longest clip that a file is read by."""
        return self

    @property
    def streams(self) -> dict[str, Any]:
        """Of itself as an upstream: itself alone."""
        return {ALONE: self}

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @torch.inference_mode()
    def predict_batch(self, batch: WaveBatch) -> HeadOutput:
        """(B, N) samples -> the logits of every task; the embedding is the logits."""
        inputs = [self._inputs(row[:length]) for row, length in zip(batch.samples, batch.lengths.tolist(), strict=True)]
        by_shape: dict[Any, list[int]] = {}
        for row, values in enumerate(inputs):
            by_shape.setdefault(tuple(sorted((key, value.shape) for key, value in values.items())), []).append(row)
        found: dict[int, Tensor] = {}
        for rows in by_shape.values():
            joined = {key: torch.cat([inputs[row][key] for row in rows]).to(self.device) for key in inputs[rows[0]]}
            found |= dict(zip(rows, self.model(**joined).logits.float(), strict=True))
        logits = torch.stack([found[row] for row in range(len(inputs))])  # (B, C)
        return HeadOutput({task: logits[:, columns] for task, columns in self._columns.items()}, logits)

    def keep_in_precision(self, precision: str) -> None:
        """From now on the whole model computes in this precision, as `keep_in_precision` of an upstream.

        Raises:
            ValueError: the device or the model has it not, or computes other scores in it: a noise is tried.
        """
        check_available(self.model, self.device, precision)
        if precision == "no":
            return
        noise = WaveBatch.collate([probe_noise(PROBES[-1], self.sample_rate)], self.sample_rate)
        exact = self.predict_batch(noise).embedding  # (1, C) logits
        keep(self.model, self.device, precision)
        self.precision = precision
        error = float((self.predict_batch(noise).embedding - exact).norm() / exact.norm())
        if not error <= LIMIT:
            raise ValueError(
                f"mixed_precision={precision} is wrong with {self.name}: its scores of a noise are {100 * error:.0f} % "
                f"off float32, more than {100 * LIMIT:.0f} %. Use mixed_precision=no."
            )

    def _inputs(self, wave: Tensor) -> dict[str, Tensor]:
        """The model's inputs for one clip, (1, ...) each."""
        short = max(0, math.ceil(MIN_SECONDS * self.sample_rate) - len(wave))
        samples = nn.functional.pad(wave.float().cpu(), (0, short)).numpy()
        return dict(self.extractor(samples, sampling_rate=self.sample_rate, return_tensors="pt"))

    def renamed(self, names: Mapping[str, str]) -> TransformersModel:
        """The same weights under other labels, {now: then}; classes are then in alphabetical order, as those of a run.

        A classification whose labels have been mapped is one of emotions, unless it is of gender.

        Raises:
            ValueError: no task has such a label, or two labels would have one name.
        """
        labels = [label for task in self.tasks for label in task.labels]
        for label in names:
            if label not in labels:
                raise ValueError(f"The model has no label {label!r}.{nearest(label, labels)}")
        tasks: list[Task] = []
        columns: dict[str, list[int]] = {}
        for task in self.tasks:
            new = [names.get(label, label) for label in task.labels]
            if len(set(new)) < len(new):
                raise ValueError(f"Two labels of the model would have one name: {', '.join(sorted(new))}.")
            order = sorted(range(len(new)), key=new.__getitem__)
            name = new[0] if not task.has_classes else "emotion" if task.name == "label" else task.name
            tasks.append(Task(name, task.kind, tuple(new[place] for place in order)))
            columns[name] = [self._columns[task.name][place] for place in order]
        twin = copy.copy(self)
        twin.tasks, twin._columns = tuple(tasks), columns
        return twin

    def datasets(self) -> list[str]:
        """What its card says that it was trained on; empty where there is no card or it says nothing."""
        named = self.card.data.get("datasets") if self.card is not None else None
        return [named] if isinstance(named, str) else [str(name) for name in named or []]

    def names_corpus(self, corpus: str) -> bool:
        """Whether its card mentions a corpus, in any spelling: `crema_d`, CREMA-D."""
        letters = "[-_ ]?".join(re.escape(letter) for letter in re.sub(r"[^a-z0-9]", "", corpus.lower()))
        text = str(self.card).lower() if self.card is not None else ""
        return bool(letters and re.search(rf"(?<![a-z0-9]){letters}(?![a-z0-9])", text))


def _native_class(name: str, raw: Mapping[str, Any]) -> type[PreTrainedModel]:
    """Transformers' class for a config.json."""
    kind = str(raw.get("model_type"))
    known: dict[str, Any] = {config.model_type: cls for config, cls in MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING.items()}
    if kind not in known or kind == "undertone":
        made = ", ".join(raw.get("architectures") or ["no class named"])
        kinds = ", ".join(sorted(set(known) - {"undertone"}))
        raise ValueError(
            f"{name!r} holds a {kind!r} model ({made}), which classifies no audio. What can be used: a model that "
            f"Undertone trained, and audio-classification models of transformers: {kinds}."
        )
    return known[kind]


def _check_weights(name: str, raw: Mapping[str, Any], info: Mapping[str, Any]) -> None:
    """Refuse a model whose weights do not fill it: transformers would draw the rest at random."""
    missing = sorted(key for key in info["missing_keys"] if not key.endswith(MASK_EMBEDDING))
    missing += sorted(str(key[0]) for key in info["mismatched_keys"])
    if not missing:
        return
    made = ", ".join(raw.get("architectures") or ["no class named"])
    head = all(key.split(".")[0] in ("projector", "classifier", "layer_weights") for key in missing)
    raise ValueError(
        f"{name!r} holds a {raw['model_type']!r} model ({made}) "
        + (
            f"without a classifier of audio. `undertone crossval CORPUS --upstream {name}` trains one. "
            if head
            else "whose weights do not fit its config.json. "
        )
        + f"Missing: {', '.join(missing[:5])}."
    )


def _tasks(name: str, config: Any) -> tuple[tuple[Task, ...], dict[str, list[int]]]:
    """The tasks of a config, and which outputs are theirs."""
    labels = [str(config.id2label[index]) for index in range(config.num_labels)]
    if config.problem_type == "multi_label_classification":
        raise ValueError(f"{name!r} gives several labels at once (multi_label_classification), which is no task here.")
    small = [label.lower() for label in labels]
    if config.problem_type == "regression" or set(small) <= set(DIMENSIONS):
        return tuple(Task(label, "regression", (label,)) for label in small), {
            label: [column] for column, label in enumerate(small)
        }
    if set(small) <= GENDERS:
        task = "gender"
    else:
        task = "emotion" if sum(label.startswith(EMOTIONS) for label in small) > 1 else "label"
    return (Task(task, "classification", tuple(labels)),), {task: list(range(len(labels)))}


def _card(name: str, revision: str | None) -> ModelCard | None:
    """README.md beside the model; None where it cannot be had, or is no card."""
    try:
        path = (
            Path(name) / "README.md" if Path(name).is_dir() else hf_hub_download(name, "README.md", revision=revision)
        )
        return ModelCard(Path(path).read_text(encoding="utf-8"), ignore_metadata_errors=True)
    except (OSError, ValueError):
        return None


def is_foreign(settings: object) -> bool:
    """Whether the content of a config.json is of a model that transformers saved, and not Undertone."""
    kind = settings.get("model_type") if isinstance(settings, Mapping) else None
    return isinstance(kind, str) and kind not in ("undertone", "undertone-run")
