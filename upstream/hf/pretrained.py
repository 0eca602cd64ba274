"""Read a speech model as the Hub or a folder holds it, through transformers, and refuse weights that do not fit."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from safetensors import safe_open
from transformers import AutoConfig, FeatureExtractionMixin, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.auto_mappings import CONFIG_MAPPING_NAMES
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_INDEX_NAME, WEIGHTS_NAME
from transformers.utils import logging as transformers_logging
from transformers.utils.hub import cached_file
from transformers.utils.peft_utils import find_adapter_config_file

from undertone.common.files import read_json
from undertone.common.hub_client import limit_waiting
from undertone.upstream.hf.families import FAMILIES
from undertone.upstream.hf.limits import check_sample_rate, check_settings, check_size

# ---- Keep transformers silent where what matters is checked and said here.


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No load report, no bar over a local file (downloads keep theirs), no converter thread of transformers."""
    verbosity, variable = transformers_logging.get_verbosity(), "DISABLE_SAFETENSORS_CONVERSION"
    before = os.environ.get(variable)
    os.environ[variable] = "1"  # else a .bin on the Hub starts a thread that asks a bot there for a pull request
    hook = transformers_logging.set_tqdm_hook(lambda _, args, kwargs: transformers_logging.EmptyTqdm(*args, **kwargs))
    transformers_logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        transformers_logging.set_tqdm_hook(hook)
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before


# ---- Config, weights and preprocessing.

logger = logging.getLogger(__name__)
MASK_EMBEDDING = "masked_spec_embed"  # what SpecAugment fills with; it decides no hidden state here
SAMPLE_RATE = 16_000
WEIGHT_FILES = ("*.safetensors", "*.bin")
ADAPTERS = "adapter_config.json"


def prepare_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """Set what makes the list of hidden states complete and the same in every mode; changes and returns `config`."""
    if config.model_type in FAMILIES:
        settings = dict(FAMILIES[config.model_type].settings)
    else:
        settings = {key: 0.0 for key in vars(config) if key.endswith("layerdrop")} | {"apply_spec_augment": False}
    for key, value in settings.items():
        setattr(config, key, value)
    return config


def read_config(name: str, revision: str | None) -> PreTrainedConfig:
    """The prepared config of a model of transformers."""
    if os.path.isdir(name):
        _refuse_adapters(name, revision)  # of a Hub id only once it answers
    else:
        limit_waiting()
    with _reading(name, "config.json"):
        raw, _ = PreTrainedConfig.get_config_dict(name, revision=revision)
    if not isinstance(raw, dict) or not isinstance(raw.get("model_type"), str):
        raise ValueError(
            f"{name!r} holds no config.json that names a model_type, so its architecture is unknown. "
            f"Give the folder or Hub id of a model that transformers saved."
        )
    _refuse_adapters(name, revision)
    if raw["model_type"] not in CONFIG_MAPPING_NAMES:
        close = get_close_matches(raw["model_type"], CONFIG_MAPPING_NAMES, n=1)
        raise ValueError(
            f"{name!r} is a {raw['model_type']!r} model, not a speech upstream: transformers "
            f"{transformers.__version__} has no such type." + (f" Did you mean {close[0]!r}?" if close else "")
        )
    check_settings(name, raw)
    with _reading(name, "config.json"):
        return prepare_config(AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False))


def _refuse_adapters(name: str, revision: str | None) -> None:
    """Refuse PEFT adapters: transformers would put those beside a model into it, and rename its weights."""
    found, settings = None, {}
    with quiet_transformers(), suppress(Exception):  # a Hub that does not answer; a file that is not JSON
        found = find_adapter_config_file(name, revision=revision)
        settings = dict(read_json(Path(found))) if found else {}
    if not found:
        return
    adapted = (settings.get("auto_mapping") or {}).get("base_model_class") or "AutoModel"
    base, adapters, first = settings.get("base_model_name_or_path") or "BASE", name, ""
    if any(path for pattern in WEIGHT_FILES for path in Path(name).glob(pattern) if "adapter" not in path.name):
        base, adapters = name, "ADAPTERS"
        first = f"move {ADAPTERS} and its weights into a folder of their own, {adapters}; then "
    raise ValueError(
        f"{name!r} holds PEFT adapters ({ADAPTERS}); an upstream needs them merged into its weights. In Python, {first}"
        f"PeftModel.from_pretrained({adapted}.from_pretrained({base!r}), {adapters!r}).merge_and_unload()"
        f".save_pretrained('merged'). Copy the base model's preprocessor_config.json there, and give that folder."
    )


def find_commit(name: str, revision: str | None) -> str | None:
    """The commit on the Hub that `read_config` has just read, from the cache; None for a local folder."""
    if Path(name).is_dir():
        return None
    cached = try_to_load_from_cache(name, "config.json", revision=revision)  # .../snapshots/COMMIT/config.json
    return Path(cached).parent.name if isinstance(cached, str) else None


def read_model(
    name: str,
    revision: str | None,
    config: PreTrainedConfig,
    model_class: Any,
    key_mapping: dict[str, str] | None,
) -> PreTrainedModel:
    """The weights of a checkpoint in `model_class`, float32 and eval mode, whatever head or whole they were saved with.

    `key_mapping` turns patterns of the checkpoint's names into those of the class.
    """
    with _reading(name, "the weights"):
        model, info = read_weights(model_class, name, revision, config, key_mapping)
    check_weights(name, model, info)
    return model.eval()


def weight_names(name: str, revision: str | None) -> list[str]:
    """The names of the weights in a checkpoint: of its index, or of its one file."""
    with _reading(name, "the weights"):
        for file in (SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_NAME):
            path = cached_file(name, file, revision=revision, _raise_exceptions_for_missing_entries=False)
            if path is None:
                continue
            if file.endswith(".json"):
                return list(read_json(Path(path))["weight_map"])
            if file == SAFE_WEIGHTS_NAME:
                with safe_open(path, framework="pt") as weights:
                    return list(weights.keys())
            return list(torch.load(path, map_location="meta", weights_only=True))
        raise FileNotFoundError(f"there is no {SAFE_WEIGHTS_NAME}.")


def read_weights(
    model_class: Any,
    name: str,
    revision: str | None,
    config: PreTrainedConfig,
    key_mapping: dict[str, str] | None = None,
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """A model in float32, and transformers' report of the weights that did not fit, which the caller must check."""
    if os.path.isdir(name):
        num_bytes = sum(path.stat().st_size for pattern in WEIGHT_FILES for path in Path(name).glob(pattern))
        check_size(name, model_class, config, num_bytes)  # a weight takes a byte or more
    return model_class.from_pretrained(
        name,
        config=config,
        revision=revision,
        dtype=torch.float32,
        weights_only=True,
        key_mapping=key_mapping,
        ignore_mismatched_sizes=True,  # so that they can be named
        output_loading_info=True,
    )


def check_weights(name: str, model: PreTrainedModel, info: dict[str, Any]) -> None:
    """Refuse weights that do not fit; a head's are left out, and a missing SpecAugment vector is zero and said."""
    own = {child for child, _ in model.named_children()}
    unexpected = {key.removeprefix(f"{model.base_model_prefix}.") for key in info["unexpected_keys"]}
    problems = {
        "missing": set(info["missing_keys"]) - {MASK_EMBEDDING},
        "not of this architecture": {key for key in unexpected if key.split(".")[0] in own},
        "of another shape": {f"{key} {tuple(got)}, not {tuple(want)}" for key, got, want in info["mismatched_keys"]},
    }
    if any(problems.values()):
        text = "; ".join(f"{kind}: {_first(keys)}" for kind, keys in problems.items() if keys)
        raise ValueError(
            f"The weights of {name!r} do not fit its config.json (a {model.config.model_type!r} model). {text}. "
            f"Check that both belong to the same model."
        )
    if MASK_EMBEDDING in info["missing_keys"]:
        logger.warning("%s holds no %s: zeros are taken, hidden states do not need it.", name, MASK_EMBEDDING)
        torch.nn.init.zeros_(getattr(model, MASK_EMBEDDING))


def read_preprocessor(name: str, revision: str | None) -> dict[str, Any]:
    """The settings in preprocessor_config.json, or in processor_config.json; none where neither is there."""
    try:
        with quiet_transformers():
            settings, _ = FeatureExtractionMixin.get_feature_extractor_dict(name, revision=revision)
    except OSError:
        settings = {}
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(
            f"The preprocessor_config.json of {name!r} is damaged: {error}. Download or save the model again."
        ) from error
    if not isinstance(settings, dict):
        raise ValueError(
            f"The preprocessor_config.json of {name!r} holds no settings. Download or save the model again."
        )
    return settings


def check_features(name: str, model_type: str, settings: Mapping[str, Any]) -> None:
    """Refuse settings of a feature extractor that are not what a family computes here."""
    features = FAMILIES[model_type].features
    wrong = {key: settings[key] for key, value in features.items() if settings.get(key, value) != value}
    if wrong:
        raise ValueError(
            f"{name!r} says {wrong} in its preprocessor_config.json; {model_type} models are fed with "
            f"{dict(features)}. Use a checkpoint with these."
        )


def read_preprocessing(name: str, revision: str | None, config: PreTrainedConfig) -> tuple[bool, int]:
    """Whether a family's model is fed normalised utterances, and its sample rate in Hz, by preprocessor_config.json.

    Without that file: the family's default, and a warning says so.
    """
    family, settings = FAMILIES[config.model_type], read_preprocessor(name, revision)
    check_features(name, config.model_type, settings)
    if family.normalizes is None:
        settings = settings | {"do_normalize": False}
    elif "do_normalize" not in settings:
        default = family.normalizes(config)
        logger.warning(
            "%s has no preprocessor_config.json with do_normalize: taking %s, the default of %s models.",
            name, default, config.model_type,
        )  # fmt: skip
        settings = settings | {"do_normalize": default}
    return bool(settings["do_normalize"]), check_sample_rate(name, settings.get("sampling_rate", SAMPLE_RATE))


def _first(keys: set[str], count: int = 5) -> str:
    more = f" and {len(keys) - count} more" if len(keys) > count else ""
    return ", ".join(sorted(keys)[:count]) + more


@contextmanager
def _reading(name: str, what: str) -> Iterator[None]:
    """Turn what transformers, huggingface_hub, torch and safetensors raise while reading into one sentence.

    That can be any of Python's errors where a setting of config.json has a wrong type or makes no model.
    """
    try:
        with quiet_transformers():
            yield
    except Exception as error:
        where = "in that folder" if Path(name).is_dir() else "on the Hub, and it is no local folder"
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ValueError(
            f"Cannot read {what} of upstream {name!r} {where}: {reason} {_access(name, error)}Give a folder with "
            f"config.json and weights, or a Hub id that this machine can reach or has cached."
        ) from error


def _access(name: str, error: BaseException | None) -> str:
    """How to get what the Hub does not give to just anyone; it says "not found" of private repositories, too."""
    while error is not None:
        if isinstance(error, RepositoryNotFoundError):  # a gated one is a kind of it
            if isinstance(error, GatedRepoError):
                return f"Ask for access at {constants.ENDPOINT}/{name}, then sign in: hf auth login. "
            return "Check the name; if it is private, sign in: hf auth login. "
        error = error.__cause__
    return ""
