"""What transformers' Auto classes and `pipeline` say of a run's folder, which holds a model and is none."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PreTrainedConfig


class UndertoneRunConfig(PreTrainedConfig):
    """The config.json of a run: it has settings of a training, and is refused with the model's folder.

    Without `import undertone.hub` transformers itself says that it does not know the type `undertone-run`.
    """

    model_type = "undertone-run"

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> UndertoneRunConfig:  # type: ignore[override]
        """Refuse it."""
        folder = str(kwargs.get("name_or_path") or config_dict.get("_name_or_path") or "RUN").rstrip("/")
        raise ValueError(
            f"{folder} is the folder of a run, not a model. Its model is in {folder}/model: give that; a fold's is in "
            f"{folder}/folds/NAME/model."
        )


AutoConfig.register(UndertoneRunConfig.model_type, UndertoneRunConfig, exist_ok=True)
