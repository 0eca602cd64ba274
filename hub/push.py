"""Publish a trained model: its files, its results and its card in one commit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi, get_token

from undertone.downstream.find import PUBLISHED, REPO_ID, local_model
from undertone.downstream.hub_errors import hub_errors
from undertone.files import read_json
from undertone.hub.card import make_card, upstream_name


def push(
    run_or_model: str | Path,
    repo_id: str,
    *,
    private: bool = True,
    token: str | None = None,
    message: str | None = None,
) -> str:
    """Send a model to the Hub; the repository is made if it does not exist.

    What goes: the model folder's JSON and safetensors files, the run's `results.json`, and a card as `README.md`.
    What stays: predictions, checkpoints, audio, and the names of files and folders.

    Args:
        run_or_model: a run (its `model/` and `results.json`) or a model folder.
        repo_id: `user/name` or `organisation/name`.
        private: whether a *new* repository is private; one that exists stays as it is.
        token: Hub token; None takes the one of `hf auth login` or HF_TOKEN.
        message: of the commit.

    Returns:
        The URL of the commit; of the latest one when nothing has changed since.

    Raises:
        ValueError: a malformed `repo_id`, no model there, or no token.
        HubError: the Hub refused, or was not reached.
    """
    folder = Path(run_or_model)
    if not REPO_ID.fullmatch(repo_id):
        raise ValueError(
            f"Not a name for a repository: {repo_id!r}. Give user/name or organisation/name, of letters, digits, "
            f"'-', '_' and '.', e.g. me/emodb-wavlm."
        )
    if not folder.is_dir():
        raise ValueError(f"No such folder: {folder}. Give a run that `undertone crossval` made, or a model folder.")
    files = _collect(folder, repo_id)
    api = HfApi(token=_token(token), library_name="undertone")
    with hub_errors(repo_id):
        api.create_repo(repo_id, private=private, exist_ok=True)
        operations = [CommitOperationAdd(name, content) for name, content in files.items()]
        commit = api.create_commit(repo_id, operations, commit_message=message or "Push a model with Undertone")
    return commit.commit_url


def _collect(folder: Path, repo_id: str) -> dict[str, Path | bytes]:
    """{path in the repository: file or content}."""
    model = local_model(folder)
    paths = sorted(path for pattern in PUBLISHED for path in model.rglob(pattern))
    files: dict[str, Path | bytes] = {path.relative_to(model).as_posix(): path for path in paths}
    config, results = read_json(model / "config.json"), None
    if model != folder and (folder / "results.json").is_file():
        results = read_json(folder / "results.json")
        public = {key: value for key, value in results.items() if key != "warnings"}  # those name files
        files["results.json"] = _json(public | {"upstream": upstream_name(config)})
    if config["upstream"]["kind"] == "hf":  # a local folder's path is nobody's business; loading does not need it
        files["config.json"] = _json(config | {"upstream": config["upstream"] | {"name": upstream_name(config)}})
    files["README.md"] = make_card(model, results, repo_id).encode()
    return files


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _token(token: str | None) -> str:
    found = token or get_token()
    if not found:
        raise ValueError("Not signed in to the Hub: there is no token. Sign in with `hf auth login`, or set HF_TOKEN.")
    return found
