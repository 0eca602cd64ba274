"""All tasks of a model in transformers' `pipeline`; `audio-classification` shows one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor
from transformers import AudioClassificationPipeline, AutoModelForAudioClassification
from transformers.pipelines import PIPELINE_REGISTRY

from undertone.downstream.head import readable, task_output
from undertone.downstream.model import UndertoneModel, utterance_logits

TASK = "speech-emotion-recognition"


class SpeechEmotionPipeline(AudioClassificationPipeline):
    """Classes with their scores, and values, of every task; registered as `speech-emotion-recognition`.

    It takes what `audio-classification` takes, and gives for each recording `{task: {"label", "scores": {label:
    probability}}}`, and `{task: value}` of dimensions.

    Example:
        >>> import undertone.hub
        >>> from transformers import pipeline
        >>> pipeline("speech-emotion-recognition", model="user/emodb-wavlm")("call.wav")  # doctest: +SKIP
        {'emotion': {'label': 'angry', 'scores': {'angry': 0.83, ...}}, 'arousal': 0.71}
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"top_k": None, **kwargs})  # type: ignore[no-untyped-call]  # top_k: else 5
        if not isinstance(self.model, UndertoneModel):
            raise ValueError(
                f"pipeline({TASK!r}) is for models that Undertone trained, got a {type(self.model).__name__}. "
                f"Use pipeline('audio-classification')."
            )

    def _sanitize_parameters(  # type: ignore[override]  # without theirs
        self, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        for name in ("top_k", "function_to_apply"):
            if kwargs.get(name) is not None:
                raise ValueError(f"pipeline({TASK!r}) gives every score and takes no {name}.")
        return {}, {}, {}

    def _forward(self, model_inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:  # type: ignore[override]
        """{task: (B, C) probabilities or values}."""
        model = cast(UndertoneModel, self.model)
        batch = model.wave_batch(model_inputs["input_values"], model_inputs.get("attention_mask"))
        output = model.head_output(batch)
        return {task.name: task_output(task, utterance_logits(output, task.name)) for task in model.tasks}

    def postprocess(self, model_outputs: Mapping[str, Tensor]) -> dict[str, Any]:  # type: ignore[override]
        """One recording's entry of every task."""
        tasks = cast(UndertoneModel, self.model).tasks
        return {task.name: readable(task, model_outputs[task.name][0].tolist()) for task in tasks}


PIPELINE_REGISTRY.register_pipeline(TASK, SpeechEmotionPipeline, pt_model=AutoModelForAudioClassification, type="audio")
