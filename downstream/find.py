"""Where a model is: a model folder, a run, or a repository on the Hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from huggingface_hub import snapshot_download

from undertone.downstream.hub_errors import HubError, hub_errors
from undertone.files import read_json, safe_name

MODEL_FILES = ("config.json", "model.safetensors")
PUBLISHED = ("*.json", "*.safetensors")  # nothing that could be a pickle or code is sent or fetched
REPO_ID = re.compile(
    r"(?!.*(?:--|\.\.))\w[\w.-]*/\w(?:[\w.-]{0,94}\w)?(?<!\.git)", re.ASCII
)  # user/name, the Hub's rule


def find_model(where: str | Path, *, fold: str | None = None, revision: str | None = None, **download: Any) -> Path:
    """The local folder of the model that `where` stands for.

    Args:
        where: a model folder, a run (its refitted `model/`), or a Hub id `user/name`, which is downloaded or taken
            from the cache; `HF_ENDPOINT`, `HF_HOME` and `HF_HUB_OFFLINE` are honoured.
        fold: of a run, the model of this fold instead.
        revision: of a Hub id, the branch, tag or commit.
        download: of a Hub id, `token`, `cache_dir` and `local_files_only` as in `huggingface_hub`.

    Raises:
        ValueError: there is no model; the message lists what was looked for.
        HubError: the Hub refused, or was not reached.
    """
    folder = Path(where)
    if folder.exists():
        return local_model(folder, fold)
    if fold is not None or not REPO_ID.fullmatch(str(where)):
        raise ValueError(
            f"No model at {str(where)!r}: there is no such folder. Give a model folder, a run, or a Hub id user/name."
        )
    return _pull(str(where), revision, download)


def local_model(folder: Path, fold: str | None = None) -> Path:
    """The model folder that `folder` is or, as a run, holds.

    Raises:
        ValueError: there is none; the message lists what was looked for.
    """
    if fold is not None:
        candidates = [folder / "folds" / safe_name(fold) / "model"]
    else:
        candidates = [folder, folder / "model"]
    for candidate in candidates:
        if all((candidate / name).is_file() for name in MODEL_FILES):
            return candidate
    tried = " and ".join(str(candidate) for candidate in candidates)
    raise ValueError(f"No model in {folder}: looked for {' + '.join(MODEL_FILES)} in {tried}. {_way_out(folder, fold)}")


def _way_out(folder: Path, fold: str | None) -> str:
    folds = sorted(_fold_name(path.parent) for path in folder.glob("folds/*/model"))
    if fold is not None:
        return f"Folds with a model: {', '.join(folds) or 'none'}."
    if (folder / "results.json").is_file() or (folder / "folds").is_dir():
        return (
            f"The run is not finished: give its `undertone crossval ... --out {folder}` again, which resumes it and "
            f"refits {folder / 'model'}."
        )
    return "`undertone crossval CORPUS --out RUN` or `undertone train CORPUS --out RUN` makes a run with a model."


def _fold_name(folder: Path) -> str:
    """The name of a fold, from its fold.json; an unfinished one's, or one of an earlier version, from its folder."""
    record = folder / "fold.json"
    name = read_json(record).get("name") if record.is_file() else None
    return str(name or unquote(folder.name))


def _pull(repo_id: str, revision: str | None, download: dict[str, Any]) -> Path:
    try:
        with hub_errors(repo_id):
            folder = Path(snapshot_download(repo_id, revision=revision, allow_patterns=list(PUBLISHED), **download))
    except HubError as error:
        raise HubError(f"There is no folder {repo_id} here, and the Hub has nothing for it either. {error}") from error
    missing = [name for name in MODEL_FILES if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"{repo_id!r} on the Hub is no model that Undertone trained: it has no {' and no '.join(missing)}."
        )
    return folder
