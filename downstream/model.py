"""Upstream + layer sum + head as one model that is saved, loaded and published."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForAudioClassification, PreTrainedModel
from transformers.initialization import no_init_weights
from transformers.modeling_outputs import SequenceClassifierOutput

from undertone.common.files import atomic_path, draft_folder, write_json
from undertone.common.hub_client import find_model
from undertone.downstream.config import UndertoneConfig, read_config
from undertone.downstream.head import HeadOutput
from undertone.downstream.losses import task_loss
from undertone.downstream.network import Downstream
from undertone.downstream.pooling import masked_mean
from undertone.upstream import Frames, Upstream, WaveBatch, build_upstream, load_upstream
from undertone.upstream.hf.limits import as_sentence, count_weights, refuse_larger
from undertone.upstream.hf.upstream import NOT_COMPUTED
from undertone.upstream.load import check_allowed, is_outside

# ---- The upstream that a head-only folder names, refused if it is not the one that the head was trained on.

SETTINGS = ("options", "do_normalize", "sample_rate")


def named_upstream(config: UndertoneConfig, allow: tuple[str, ...] = ()) -> Upstream:
    """Load it, with the weights and the settings that the config recorded; the version of transformers may differ."""
    spec = config.upstream
    if not os.path.isdir(os.path.expanduser(spec["name"])):  # what is no folder may be a file of Python
        check_allowed("upstream", spec["name"], allow)
    try:
        upstream = load_upstream(
            spec["name"], revision=spec.get("commit") or spec.get("revision"), options=spec.get("options")
        )
    except ValueError as error:
        raise ValueError(f"This folder holds a head alone, which needs its upstream. {error}") from error
    differing = _differences(spec, upstream.spec())
    if config.upstream_hash != upstream.weights_hash():
        differing.append(f"weights {config.upstream_hash[:12] or 'without a hash'}, not {upstream.weights_hash()[:12]}")
    if differing:
        raise ValueError(
            f"This head was trained on another upstream than {spec['name']!r} is now: {'; '.join(differing)}. "
            f"Use the self-contained model, or train again."
        )
    return upstream


def _differences(trained_on: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """`key trained, not found` of every setting that both record; a later transformers may know more of them."""
    then, now = (_settings(spec) for spec in (trained_on, found))
    return [f"{key} {then[key]!r}, not {now[key]!r}" for key in then.keys() & now.keys() if then[key] != now[key]]


def _settings(spec: Mapping[str, Any]) -> dict[str, Any]:
    config = {key: value for key, value in spec.get("config", {}).items() if key not in NOT_COMPUTED}
    return config | {key: spec[key] for key in SETTINGS if key in spec}


# ---- Upstream + layer sum + head as one model that is saved, loaded and published.

WEIGHTS = "model.safetensors"
ADAPTER = "adapter"
OWN_FILES = ("config.json", WEIGHTS, "preprocessor_config.json", ADAPTER)


class UndertoneModel(PreTrainedModel):
    """Audio -> emotion, gender, arousal, ...: a whole model.

    Args:
        config: its config.
        upstream: the upstream to use; None builds one of the config's architecture, without weights.
        allow: packages whose classes a config may name (`my_pkg` for the head `my_pkg.heads:MyHead`).
    """

    config_class = UndertoneConfig
    base_model_prefix = "model"
    main_input_name = "input_values"
    accepts_loss_kwargs = False  # `forward` gives a mean: transformers' Trainer must average over accumulation steps

    def __init__(self, config: UndertoneConfig, upstream: Upstream | None = None, allow: tuple[str, ...] = ()) -> None:
        super().__init__(config)
        check_allowed("head", config.head, allow)
        self.upstream = upstream if upstream is not None else build_upstream(config.upstream, allow=allow)
        self.tasks = config.make_tasks()
        self.downstream = make_downstream(config, self.upstream)
        self.post_init()

    def initialize_weights(self) -> None:
        """Nothing: every part comes with its weights, which transformers' defaults would draw again.

        A copied upstream has lost transformers' marks of what is initialised; its batch norms would be reset.
        """

    @property
    def sample_rate(self) -> int:
        """Hz of the audio that the model expects."""
        return self.upstream.sample_rate

    def head_output(self, batch: WaveBatch) -> HeadOutput:
        """(B, N) samples -> logits, embedding, attention."""
        output: HeadOutput = self.downstream(self.upstream(batch))
        return output

    @torch.inference_mode()
    def predict_batch(self, batch: WaveBatch) -> HeadOutput:
        """As `head_output`, in eval mode and without autograd, on the model's device."""
        self.eval()
        return self.head_output(batch.to(self.device))

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | Mapping[str, Tensor] | None = None,
        **_: Any,
    ) -> SequenceClassifierOutput:
        """The interface of transformers' models: the logits of the task that `config.shown_task` names.

        Args:
            input_values: (B, N) float32 samples, as read; the upstream's normalisation is part of the model.
            attention_mask: (B, N), 1 = real sample; None: all are.
            labels: (B,) targets of that task, or {task: targets} of several, as `task_loss` takes them; the loss is
                then the weighted sum of the tasks' means and of the head's own losses.

        Raises:
            ValueError: labels of no task of the model, or of one that is predicted frame by frame.
        """
        if attention_mask is None:
            lengths = torch.full(input_values.shape[:1], input_values.shape[1], device=input_values.device)
        else:
            lengths = attention_mask.sum(1)
        output = self.head_output(WaveBatch(input_values, lengths, self.sample_rate))
        shown = self.config.shown_task
        loss = None
        if labels is not None:
            loss = self._loss(output, labels if isinstance(labels, Mapping) else {shown: labels})
        return SequenceClassifierOutput(loss=loss, logits=utterance_logits(output, shown))

    def _loss(self, output: HeadOutput, labels: Mapping[str, Tensor]) -> Tensor:
        tasks = {task.name: task for task in self.tasks if task.level == "utterance"}
        if unknown := sorted(labels.keys() - tasks.keys()):
            raise ValueError(f"Labels of {unknown[0]!r}; an utterance's labels are of {', '.join(tasks) or 'no task'}.")
        parts = [
            (tasks[name].weight, *task_loss(tasks[name], output.logits[name], values))
            for name, values in labels.items()
        ]
        parts += [(1.0, total, count) for total, count in output.losses.values()]
        return torch.stack([weight * total / count.clamp(min=1) for weight, total, count in parts]).sum()

    def save_pretrained(  # type: ignore[override]
        self, save_directory: str | Path, head_only: bool = False, adapter: Upstream | None = None, **kwargs: Any
    ) -> None:
        """Write config.json, model.safetensors and preprocessor_config.json, atomically; other files are left alone.

        Args:
            save_directory: folder to make or replace.
            head_only: leave the upstream's weights out; loading then needs the upstream that the config names.
            adapter: the upstream with the LoRA adapters that belong to a head-only model; written to `adapter/`.
            kwargs: `push_to_hub=True` and its companions, as in transformers.
        """
        config = UndertoneConfig.from_dict(self.config.to_dict() | {"head_only": head_only})
        config.architectures = [type(self).__name__]
        state = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        if head_only:
            state = {name: tensor for name, tensor in state.items() if not name.startswith("upstream.")}
        folder = Path(save_directory)
        with _own_files(folder) as draft:
            save_file(state, draft / WEIGHTS, metadata={"format": "pt"})
            write_json(draft / "preprocessor_config.json", self._preprocessor_config())
            if adapter is not None:
                from undertone.upstream.hf.adapt import save_lora

                save_lora(adapter, draft / ADAPTER)
            config.save_pretrained(draft)
        if kwargs.pop("push_to_hub", False):
            self.push_to_hub(kwargs.pop("repo_id", folder.name), **kwargs)

    def _preprocessor_config(self) -> dict[str, Any]:
        return {
            "feature_extractor_type": "Wav2Vec2FeatureExtractor",
            "feature_size": 1,
            "sampling_rate": self.sample_rate,
            "padding_side": "right",
            "padding_value": 0.0,
            "do_normalize": False,  # the model normalises what it is given, utterance by utterance
            "return_attention_mask": True,
        }

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        config: UndertoneConfig | None = None,
        revision: str | None = None,
        token: str | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        allow: tuple[str, ...] = (),
        **_: Any,
    ) -> UndertoneModel:
        """Load a model from a folder or the Hub. A missing or unexpected weight is an error, never initialised.

        Raises:
            ValueError: no model there, weights that do not fit, another upstream than a head-only folder's, or a class
                of a package that is not in `allow`.
        """
        folder = find_model(
            pretrained_model_name_or_path,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
        )
        config = config or read_config(folder)
        check_allowed("head", config.head, allow)
        if config.upstream.get("kind") == "class":
            check_allowed("upstream", config.upstream["name"], allow)
        with as_sentence(f"The weights in {folder / WEIGHTS} are damaged"):
            num_weights = count_weights(folder / WEIGHTS)
        upstream = named_upstream(config, allow) if config.head_only else None
        if upstream is not None and (folder / ADAPTER).is_dir():
            from undertone.upstream.hf.adapt import load_lora  # PEFT is imported only where there is an adapter

            load_lora(upstream, folder / ADAPTER)
        with no_init_weights(), as_sentence(f"The settings in {folder / 'config.json'} make no model"):
            upstream = upstream or build_upstream(config.upstream, allow=allow, num_weights=num_weights)
            if not is_outside(config.head):  # code that the caller trusts, and which need not know torch's meta device
                with torch.device("meta"):
                    refuse_larger(str(folder), make_downstream(config, upstream), num_weights)
            model = cls(config, upstream, allow)
        _load_weights(model, folder / WEIGHTS, ignore="upstream." if config.head_only else None)
        model.eval()
        return model


def make_downstream(config: UndertoneConfig, upstream: Upstream) -> Downstream:
    """The layer sum and the head that a config describes, with new weights."""
    downstream = Downstream(
        upstream.num_layers,
        upstream.hidden_size,
        config.make_tasks(),
        config.head,
        config.head_options,
        config.layer_norm,
    )
    downstream.temperatures = {task: one["temperature"] for task, one in config.calibration.items()}
    return downstream


def utterance_logits(output: HeadOutput, task: str) -> Tensor:
    """(B, C) logits of a task; of one that is predicted frame by frame, their mean over the real frames."""
    logits = output.logits[task]
    if output.lengths is not None and logits.ndim == 3:
        return masked_mean(Frames(logits, output.lengths))  # (B, C), from (B, T, C)
    return logits


@contextmanager
def _own_files(folder: Path) -> Iterator[Path]:
    """A draft of what `save_pretrained` writes; it becomes `folder` in one step, or file by file if that holds others.

    transformers' Trainer, for one, saves the model into the folder that holds its checkpoints.
    """
    if not folder.is_dir() or all(path.name in OWN_FILES for path in folder.iterdir()):
        with atomic_path(folder) as draft:
            draft.mkdir()
            yield draft
        return
    with draft_folder(folder / "model") as beside:
        draft = beside / "model"
        draft.mkdir()
        yield draft
        shutil.rmtree(folder / ADAPTER, ignore_errors=True)
        for path in sorted(draft.iterdir(), key=lambda path: path.name == "config.json"):  # which is then the last
            path.replace(folder / path.name)


def _load_weights(model: UndertoneModel, path: Path, ignore: str | None) -> None:
    with as_sentence(f"The weights in {path} are damaged"):
        state = load_file(path)
    wanted = {
        name: value.shape for name, value in model.state_dict().items() if not (ignore and name.startswith(ignore))
    }
    missing, unexpected = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    wrong = [name for name in wanted.keys() & state.keys() if wanted[name] != state[name].shape]
    problems = {"missing": missing, "unexpected": unexpected, "of another shape": wrong}
    if any(problems.values()):
        text = "; ".join(f"{kind}: {', '.join(names[:5])}" for kind, names in problems.items() if names)
        raise ValueError(
            f"The weights in {path} do not fit their config.json ({text}). Download or save the model again."
        )
    model.load_state_dict(state, strict=ignore is None)


AutoModelForAudioClassification.register(UndertoneConfig, UndertoneModel, exist_ok=True)
