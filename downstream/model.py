"""Upstream + layer sum + head as one model that is saved, loaded and published."""

from __future__ import annotations

import logging
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
from undertone.downstream.head import HeadOutput, task_output
from undertone.downstream.losses import task_loss
from undertone.downstream.network import Downstream, rest_frozen
from undertone.downstream.pooling import masked_mean
from undertone.upstream import Frames, Upstream, WaveBatch, build_upstream, load_upstream
from undertone.upstream.hf.adapt import freeze_front_end
from undertone.upstream.hf.limits import as_sentence, count_weights, refuse_larger
from undertone.upstream.hf.upstream import HFUpstream, computed
from undertone.upstream.load import check_allowed, is_outside
from undertone.upstream.precision import check_exact
from undertone.upstream.streams import Streams, stream_shapes
from undertone.upstream.types import ALONE

# ---- The upstream that a head-only folder names, refused if it is not the one that the head was trained on.

SETTINGS = ("options", "do_normalize", "extractor", "sample_rate")


def named_upstream(config: UndertoneConfig, allow: tuple[str, ...] = ()) -> Upstream:
    """Load it, with the weights and the settings that the config recorded; the version of transformers may differ."""
    several, differing = config.upstream.get("streams"), []
    parts = {}
    for spec in several or [config.upstream]:
        if not os.path.isdir(os.path.expanduser(spec["name"])):  # what is no folder may be a file of Python
            check_allowed("upstream", spec["name"], allow)
        try:
            part = load_upstream(
                spec["name"], revision=spec.get("commit") or spec.get("revision"), options=spec.get("options")
            )
        except ValueError as error:
            raise ValueError(f"This folder holds a head alone, which needs its upstream. {error}") from error
        parts[spec.get("stream", ALONE)] = part
        then, now = _settings(spec), _settings(part.spec())  # a later transformers may know more settings
        common = then.keys() & now.keys()
        differing += [f"{key} {then[key]!r}, not {now[key]!r}" for key in common if then[key] != now[key]]
    upstream = Streams(parts).eval() if several else parts[ALONE]
    if config.upstream_hash != upstream.weights_hash():
        differing.append(f"weights {config.upstream_hash[:12] or 'without a hash'}, not {upstream.weights_hash()[:12]}")
    if differing:
        raise ValueError(
            f"This head was trained on another upstream than {config.upstream['name']!r} is now: "
            f"{'; '.join(differing)}. Use the self-contained model, or train again."
        )
    return upstream


def _settings(spec: Mapping[str, Any]) -> dict[str, Any]:
    return computed(spec.get("config", {})) | {key: spec[key] for key in SETTINGS if key in spec}


# ---- The model.

FROZEN, FINETUNE = "frozen", "finetune"  # `mode` of a config
WEIGHTS = "model.safetensors"
ADAPTER = "adapter"
PREPROCESSOR = {
    "feature_extractor_type": "Wav2Vec2FeatureExtractor",
    "feature_size": 1,
    "sampling_rate": 16_000,  # replaced by the model's
    "padding_side": "right",
    "padding_value": 0.0,
    "do_normalize": False,  # the model normalises what it is given, utterance by utterance
    "return_attention_mask": True,
}
OWN_FILES = ("config.json", WEIGHTS, "preprocessor_config.json", ADAPTER)
logger = logging.getLogger(__name__)
# What transformers' Auto classes and `pipeline` hand on by themselves, and which changes nothing here.
FROM_AUTO = {"_from_auto", "_from_pipeline", "_commit_hash", "trust_remote_code", "adapter_kwargs", "code_revision"}


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
    supports_gradient_checkpointing = True  # of a Hugging Face upstream's blocks

    def __init__(self, config: UndertoneConfig, upstream: Upstream | None = None, allow: tuple[str, ...] = ()) -> None:
        super().__init__(config)
        check_allowed("head", config.head, allow)
        self.upstream = upstream if upstream is not None else build_upstream(config.upstream, allow=allow)
        self.tasks = config.make_tasks()
        self.downstream = make_downstream(config, self.upstream)
        self._said_frozen = False
        self.post_init()
        if config.mode == FROZEN:
            self.freeze_base_model()

    def initialize_weights(self) -> None:
        """Nothing: every part comes with its weights, which transformers' defaults would draw again.

        A copied upstream has lost transformers' marks of what is initialised; its batch norms would be reset.
        """

    @property
    def sample_rate(self) -> int:
        """Hz of the audio that the model expects."""
        return self.upstream.sample_rate

    def wave_batch(self, input_values: Tensor, attention_mask: Tensor | None) -> WaveBatch:
        """What transformers hands to `forward` as a batch of ours."""
        if not input_values.is_floating_point():
            raise ValueError(
                f"input_values must be floats in [-1, 1], got {input_values.dtype}. Divide 16 bit integers by 32768."
            )
        if attention_mask is None:
            lengths = torch.full(input_values.shape[:1], input_values.shape[1], device=input_values.device)
        else:
            lengths = attention_mask.sum(1)
        return WaveBatch(input_values.float(), lengths, self.sample_rate)

    def head_output(self, batch: WaveBatch) -> HeadOutput:
        """(B, N) samples -> logits, embedding, attention."""
        return self.downstream(self.upstream(batch))

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
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> SequenceClassifierOutput | tuple[Any, ...]:
        """The interface of transformers' models: the logits of the task that `config.shown_task` names.

        Args:
            input_values: (B, N) samples, floating point, as read; the upstream's normalisation is part of the model.
            attention_mask: (B, N), 1 = real sample; None: all are.
            labels: (B,) targets of that task, or {task: targets} of several, as `task_loss` takes them; the loss is
                then the weighted sum of the tasks' means and of the head's own losses.
            output_hidden_states: add `hidden_states`, the L layers of the upstream, (B, T, D) each; None: as
                `config.output_hidden_states` says.
            return_dict: False: a tuple of what there is of loss, logits, hidden states; None: as `config.return_dict`.

        Raises:
            ValueError: samples that are not floating point, or labels of no task of the model, or of one that is
                predicted frame by frame.
            TypeError: an argument that is not listed here, such as `output_attentions`.
        """
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        if output_hidden_states and isinstance(self.upstream, Streams):
            raise ValueError(
                f"output_hidden_states is for one upstream; those of {self.upstream.name} have frames of their own. "
                f"Ask model.upstream, which gives the states of each."
            )
        hidden = self.upstream(self.wave_batch(input_values, attention_mask))
        output: HeadOutput = self.downstream(hidden)
        shown = self.config.shown_task
        loss = None
        if labels is not None:
            loss = self._loss(output, labels if isinstance(labels, Mapping) else {shown: labels})
        logits = utterance_logits(output, shown)
        task = next(task for task in self.tasks if task.name == shown)
        found = SequenceClassifierOutput(
            loss=loss,
            logits=logits if task.has_classes else task_output(task, logits).to(logits.dtype),
            hidden_states=hidden.states.unbind(1) if output_hidden_states else None,
        )
        return found if (self.config.return_dict if return_dict is None else return_dict) else found.to_tuple()

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

    # ---- What learns, where this model is trained on outside of Undertone.

    def train(self, mode: bool = True) -> UndertoneModel:
        """Train mode where something learns; a module whose every weight is frozen drops nothing out."""
        super().train(mode)
        rest_frozen(self.upstream)
        if mode and self.config.mode == FROZEN and not self._said_frozen:
            self._said_frozen = True
            logger.warning(
                "The upstream of this model was frozen in its training and stays frozen here: only layer sum and head "
                "learn. model.unfreeze_base_model() lets it learn too."
            )
        return self

    def freeze_base_model(self) -> None:
        """Let the upstream's weights learn no more."""
        self.upstream.requires_grad_(False)

    def unfreeze_base_model(self) -> None:
        """Let all of the upstream's weights learn, also those of a model that was trained on a frozen one.

        Raises:
            ValueError: the model was loaded with another `mixed_precision` than no.
        """
        check_exact(self.upstream, "Training")
        self.upstream.requires_grad_(True)
        for part in self.upstream.streams.values():
            if isinstance(part, HFUpstream):
                freeze_front_end(part.model, part.family, frozen=False)
        self.config.mode = FINETUNE

    def freeze_feature_encoder(self) -> None:
        """Let the convolutions before the upstream's first block learn no more; its blocks are left as they are.

        Raises:
            ValueError: the upstream is an acoustic front-end, which has none.
        """
        for upstream in self._hf_upstreams("freeze_feature_encoder()"):
            freeze_front_end(upstream.model, upstream.family)

    def _set_gradient_checkpointing(self, enable: bool = True, *args: Any, **kwargs: Any) -> None:
        """What `gradient_checkpointing_enable` of transformers calls, with a function that repeats the dropout."""
        self._hf_upstreams("Gradient checkpointing")
        super()._set_gradient_checkpointing(enable, *args, **kwargs)

    def _hf_upstreams(self, what: str, every: bool = False) -> list[HFUpstream]:
        """Those of the upstream's streams that have weights: one or more, or every one."""
        parts = self.upstream.streams.values()
        found = [part for part in parts if isinstance(part, HFUpstream)]
        if len(found) < (len(parts) if every else 1):
            raise ValueError(
                f"{what} is for Hugging Face upstreams; {self.upstream.name!r} computes its features without weights "
                f"that learn. Leave it out."
            )
        return found

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
            write_json(draft / "preprocessor_config.json", PREPROCESSOR | {"sampling_rate": self.sample_rate})
            if adapter is not None:
                from undertone.upstream.hf.adapt import save_adapters

                save_adapters(adapter, draft / ADAPTER)
            config.save_pretrained(draft)
        if kwargs.pop("push_to_hub", False):
            self.push_to_hub(kwargs.pop("repo_id", folder.name), **kwargs)

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
        dtype: torch.dtype | str | None = None,
        device_map: Any = None,
        num_labels: int | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        allow: tuple[str, ...] = (),
        **others: Any,
    ) -> UndertoneModel:
        """Load a model from a folder or the Hub. A missing or unexpected weight is an error, never initialised.

        Args:
            pretrained_model_name_or_path: a model folder, a run, or a Hub id.
            config: instead of the folder's.
            revision: of a Hub id: branch, tag or commit.
            token: for the Hub.
            cache_dir: of downloads.
            local_files_only: ask no Hub.
            dtype: of upstream and head, `torch.bfloat16` or "bfloat16"; None and "auto": float32, as saved. Of an
                acoustic upstream float32 alone.
            device_map: the one device of the model: "cpu", "cuda:1", 0, {"": 0}; "auto" is a GPU if there is one.
            num_labels: refused unless it is that of the model, whose classes are those that it was trained on.
            output_hidden_states: what `forward` does unless it is told; None: as the config says.
            return_dict: likewise.
            allow: packages whose classes the config may name.
            others: refused, but for what transformers' Auto classes add by themselves.

        Raises:
            ValueError: no model there, weights that do not fit, another upstream than a head-only folder's, a class
                of a package that is not in `allow`, or an argument that does not work here.
        """
        dtype, device = _as_dtype(others.pop("torch_dtype", dtype)), _one_device(device_map)
        if unknown := sorted(others.keys() - FROM_AUTO):
            raise ValueError(
                f"UndertoneModel.from_pretrained takes no {', '.join(unknown)}. It takes dtype, device_map, "
                f"output_hidden_states, return_dict, revision, token, cache_dir, local_files_only, allow."
            )
        folder = find_model(
            pretrained_model_name_or_path, revision=revision, token=token, cache_dir=cache_dir,
            local_files_only=local_files_only,
        )  # fmt: skip
        config = config or read_config(folder)
        _check_num_labels(config, num_labels)
        asked = {"output_hidden_states": output_hidden_states, "return_dict": return_dict}
        config.update({name: value for name, value in asked.items() if value is not None})
        model = cls._without_weights(config, folder, allow)
        _load_weights(model, folder / WEIGHTS, ignore="upstream." if config.head_only else None)
        model.eval()
        if dtype is not torch.float32:
            for part in model._hf_upstreams(f"dtype={dtype}", every=True):
                part.to(dtype)
            model.downstream.to(dtype)
        return model.to(device) if device is not None else model  # type: ignore[arg-type]  # wraps

    @classmethod
    def _without_weights(cls, config: UndertoneConfig, folder: Path, allow: tuple[str, ...]) -> UndertoneModel:
        """What a config describes, with the upstream's weights where the folder holds none; refused if it is larger."""
        check_allowed("head", config.head, allow)  # before an upstream is loaded
        for spec in config.upstream.get("streams") or [config.upstream]:
            if spec.get("kind") == "class":
                check_allowed("upstream", spec["name"], allow)
        with as_sentence(f"The weights in {folder / WEIGHTS} are damaged"):
            num_weights = count_weights(folder / WEIGHTS)
        upstream = named_upstream(config, allow) if config.head_only else None
        if upstream is not None and (folder / ADAPTER).is_dir():
            from undertone.upstream.hf.adapt import load_adapters  # PEFT is imported only where there is an adapter

            load_adapters(upstream, folder / ADAPTER)
        with no_init_weights(), as_sentence(f"The settings in {folder / 'config.json'} make no model"):
            upstream = upstream or build_upstream(config.upstream, allow=allow, num_weights=num_weights)
            if config.trained_on.get("audio_only"):
                upstream.look_at_nothing()
            if not is_outside(config.head):  # code that the caller trusts, and which need not know torch's meta device
                with torch.device("meta"):
                    refuse_larger(str(folder), make_downstream(config, upstream), num_weights)
            return cls(config, upstream, allow)


def _as_dtype(dtype: torch.dtype | str | None) -> torch.dtype:
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if dtype is None or dtype == "auto":
        return torch.float32
    if found not in (torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(f"dtype={dtype!r}: a model is loaded in float32, float16 or bfloat16.")
    return found


def _one_device(device_map: Any) -> torch.device | None:
    """The device that a `device_map` of transformers names; None where none was given."""
    if device_map is None:
        return None
    place: Any = device_map.get("") if isinstance(device_map, Mapping) and len(device_map) == 1 else device_map
    if place in ("auto", "balanced", "balanced_low_0", "sequential"):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(place)
    except (TypeError, RuntimeError) as error:
        raise ValueError(
            f"device_map={device_map!r}: a model lies on one device. Give 'auto', 'cpu', 'cuda:0' or {{'': 0}}."
        ) from error


def _check_num_labels(config: UndertoneConfig, asked: int | None) -> None:
    """The Auto classes put num_labels into the config; ours go by its tasks."""
    asked = config.num_labels if asked is None else asked
    shown = next((task for task in config.tasks if task["name"] == config.shown_task), None)
    if shown is not None and asked != len(shown["labels"]):
        raise ValueError(
            f"num_labels={asked}, but this model's task {shown['name']!r} has {len(shown['labels'])} labels: "
            f"{', '.join(shown['labels'])}. Leave num_labels out; `undertone train` makes a head for other labels."
        )


def make_downstream(config: UndertoneConfig, upstream: Upstream) -> Downstream:
    """The layer sum and the head that a config describes, with new weights."""
    head = config.head, config.head_options, config.layer_norm, config.fusion or None
    downstream = Downstream(stream_shapes(upstream), config.make_tasks(), *head)
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
