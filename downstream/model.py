"""Upstream + layer sum + head as one model that is saved, loaded and published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForAudioClassification, PreTrainedModel
from transformers.initialization import no_init_weights
from transformers.modeling_outputs import SequenceClassifierOutput

from undertone.downstream.config import UndertoneConfig
from undertone.downstream.downstream import Downstream
from undertone.downstream.find import find_model
from undertone.downstream.head import HeadOutput
from undertone.downstream.losses import task_loss
from undertone.files import atomic_path, write_json
from undertone.upstream import Upstream, WaveBatch, build_upstream, load_upstream

WEIGHTS = "model.safetensors"
ADAPTER = "adapter"


class UndertoneModel(PreTrainedModel):
    """Sound -> emotion, gender, arousal, ...: a whole model.

    Args:
        config: its config.
        upstream: the upstream to use; None builds one of the config's architecture, without weights.
        allow: packages whose classes a config may name (`my_pkg` for the head `my_pkg.heads:MyHead`).
    """

    config_class = UndertoneConfig
    base_model_prefix = "model"
    main_input_name = "input_values"

    def __init__(self, config: UndertoneConfig, upstream: Upstream | None = None, allow: tuple[str, ...] = ()) -> None:
        super().__init__(config)
        _check_allowed(config.head, allow)
        self.upstream = upstream if upstream is not None else build_upstream(config.upstream, allow=allow)
        self.tasks = config.make_tasks()
        self.downstream = Downstream(
            self.upstream.num_layers,
            self.upstream.hidden_size,
            self.tasks,
            config.head,
            config.head_options,
            config.layer_norm,
        )
        self.post_init()

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Nothing: every part initialises itself, and transformers' default would draw the head's weights again."""

    @property
    def sample_rate(self) -> int:
        """Hz of the sound that the model expects."""
        return self.upstream.sample_rate

    def head_output(self, batch: WaveBatch) -> HeadOutput:
        """(B, N) samples -> logits, embedding, attention."""
        return self.downstream(self.upstream(batch))

    @torch.inference_mode()
    def predict_batch(self, batch: WaveBatch) -> HeadOutput:
        """As `head_output`, in eval mode and without autograd, on the model's device."""
        self.eval()
        return self.head_output(batch.to(self.device))

    def forward(
        self, input_values: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None, **_: Any
    ) -> SequenceClassifierOutput:
        """The interface of transformers' models: the first task's logits.

        Args:
            input_values: (B, N) float32 samples, as read; the upstream's normalisation is part of the model.
            attention_mask: (B, N), 1 = real sample; None: all are.
            labels: (B,) targets of the first task.
        """
        if attention_mask is None:
            lengths = torch.full(input_values.shape[:1], input_values.shape[1], device=input_values.device)
        else:
            lengths = attention_mask.sum(1)
        output = self.head_output(WaveBatch(input_values, lengths, self.sample_rate))
        task = self.tasks[0]
        loss = None
        if labels is not None:
            total, count = task_loss(task, output.logits[task.name], labels)
            loss = total / count.clamp(min=1)
        return SequenceClassifierOutput(loss=loss, logits=output.logits[task.name])

    def save_pretrained(  # type: ignore[override]
        self, save_directory: str | Path, head_only: bool = False, adapter: Upstream | None = None, **kwargs: Any
    ) -> None:
        """Write config.json, model.safetensors and preprocessor_config.json, atomically.

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
        with atomic_path(folder) as draft:
            draft.mkdir()
            config.save_pretrained(draft)
            save_file(state, draft / WEIGHTS, metadata={"format": "pt"})
            write_json(draft / "preprocessor_config.json", self._preprocessor_config())
            if adapter is not None:
                from undertone.upstream.adapt import save_lora

                save_lora(adapter, draft / ADAPTER)
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
        """Load a model from a folder or the Hub. A missing or unexpected weight is an error, never initialised anew.

        Raises:
            ValueError: no model there, weights that do not fit, an upstream with another fingerprint, or a class of a
                package that is not in `allow`.
        """
        folder = find_model(
            pretrained_model_name_or_path,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
        )
        config = config or UndertoneConfig.from_pretrained(folder)
        upstream = _named_upstream(config) if config.head_only else None
        if upstream is not None and (folder / ADAPTER).is_dir():
            from undertone.upstream.adapt import load_lora  # PEFT is imported only where there is an adapter

            load_lora(upstream, folder / ADAPTER)
        with no_init_weights():
            model = cls(config, upstream, allow)
        _load_weights(model, folder / WEIGHTS, ignore="upstream." if config.head_only else None)
        return model.eval()


def _load_weights(model: UndertoneModel, path: Path, ignore: str | None) -> None:
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"The weights in {path} are damaged ({error}). Get the model again.") from error
    wanted = {
        name: value.shape for name, value in model.state_dict().items() if not (ignore and name.startswith(ignore))
    }
    missing, unexpected = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    wrong = [name for name in wanted.keys() & state.keys() if wanted[name] != state[name].shape]
    problems = {"missing": missing, "unexpected": unexpected, "of another shape": wrong}
    if any(problems.values()):
        text = "; ".join(f"{kind}: {', '.join(names[:5])}" for kind, names in problems.items() if names)
        raise ValueError(f"The weights in {path} do not fit their config.json ({text}). Get the model again.")
    model.load_state_dict(state, strict=ignore is None)


def _named_upstream(config: UndertoneConfig) -> Upstream:
    """The upstream that a head-only folder names, refused if its weights are not those the head was trained on."""
    spec = config.upstream
    upstream = load_upstream(
        spec["name"], revision=spec.get("commit") or spec.get("revision"), options=spec.get("options")
    )
    if config.upstream_fingerprint != upstream.fingerprint():
        raise ValueError(
            f"This head was trained on upstream {spec['name']!r} with fingerprint "
            f"{config.upstream_fingerprint[:12]}, but what is there now has {upstream.fingerprint()[:12]}. "
            f"Use the self-contained model, or train again."
        )
    return upstream


def _check_allowed(name: str, allow: tuple[str, ...]) -> None:
    """Refuse a head from outside the package unless the caller allows its package."""
    outside = ":" in name or name.endswith(".py")
    if outside and not any(name == entry or name.startswith((f"{entry}.", f"{entry}:")) for entry in allow):
        raise ValueError(
            f"This model's head is {name!r}, code from outside undertone. If you trust it, pass "
            f"allow=({name.split(':')[0].split('.')[0]!r},)."
        )


AutoModelForAudioClassification.register(UndertoneConfig, UndertoneModel, exist_ok=True)
