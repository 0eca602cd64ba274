"""Access to the Hugging Face Hub: finding and downloading models, time limits, errors as sentences."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

from huggingface_hub import constants, get_token, hf_hub_download, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import get_session, httpx  # type: ignore[attr-defined]  # exported for users through __getattr__

from undertone.common.files import read_json, safe_name

Downloaded = TypeVar("Downloaded")

# ---- Time limits.

UPLOAD_SECONDS = 60.0  # the Hub may take long for a commit


def limit_waiting() -> None:
    """Set a time-out for all requests of `huggingface_hub`.

    The client asks for a model's commit without a time-out, so a silent server blocks it, and for a file's size with
    six times 60 s. Here no GET or HEAD request waits longer for data than the larger one of `HF_HUB_DOWNLOAD_TIMEOUT`
    and `HF_HUB_ETAG_TIMEOUT` (10 s); the client's retries remain.
    """
    client = get_session()
    hooks = client.event_hooks
    if _limit not in hooks["request"]:
        client.event_hooks = hooks | {"request": [*hooks["request"], _limit]}


def _limit(request: Any) -> None:
    asked = float(max(constants.HF_HUB_DOWNLOAD_TIMEOUT, constants.HF_HUB_ETAG_TIMEOUT))
    limit = asked if request.method in ("GET", "HEAD") else UPLOAD_SECONDS
    given = request.extensions.get("timeout") or {}
    request.extensions["timeout"] = {
        part: min(limit, given.get(part) or limit) for part in ("connect", "read", "write", "pool")
    }


# ---- Errors.

AGAIN = "Run the same command again: what was transferred already is not sent twice."


class HubError(OSError):
    """The Hub refused, or could not be reached; the message says what to do."""


@contextmanager
def hub_errors(repo_id: str) -> Iterator[None]:
    """Turn the client's errors inside the block into a `HubError` about `repo_id`, and limit how long requests wait."""
    limit_waiting()
    try:
        yield
    except (httpx.HTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, RuntimeError) as error:
        reason: BaseException | None = error  # the first informative one of its causes: uploads raise a RuntimeError
        while reason is not None and not isinstance(reason, (httpx.HTTPError, OfflineModeIsEnabled)):
            reason = reason.__cause__
        if reason is None:
            raise
        raise HubError(explain(reason, repo_id)) from error


def explain(error: BaseException, repo_id: str) -> str:
    """What was requested, what the Hub answered, what to do next."""
    if isinstance(error, OfflineModeIsEnabled):
        return (
            f"HF_HUB_OFFLINE is set, so the Hub is not asked for {repo_id!r}, and it is not in the cache "
            f"{constants.HF_HUB_CACHE}. Unset HF_HUB_OFFLINE, or copy the model's folder here and give its path."
        )
    if isinstance(error, HfHubHTTPError):
        return _explain_answer(error, repo_id)
    return (
        f"Cannot reach the Hub at {constants.ENDPOINT} ({type(error).__name__}: {error}). Check the network, the "
        f"proxy and HF_ENDPOINT. {AGAIN}"
    )


def _explain_answer(error: HfHubHTTPError, repo_id: str) -> str:
    status = error.response.status_code
    said = error.response.headers.get("X-Error-Message") or error.server_message or error.response.reason_phrase
    answer = f"HTTP {status}: {said}"
    url = f"{constants.ENDPOINT}/{repo_id}"
    if isinstance(error, GatedRepoError):
        return f"{repo_id!r} is gated ({answer}). Ask for access at {url}, then sign in: hf auth login."
    if isinstance(error, RevisionNotFoundError):
        return f"{repo_id!r} has no such revision ({answer}). Its branches and tags are at {url}/tree/main."
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"The Hub has no model {repo_id!r}, or it is private and you are not signed in with read access "
            f"({answer}). Check the name, or sign in: hf auth login."
        )
    if status == 401:
        return (
            f"The Hub does not accept the token ({answer}). Make one with write access at "
            f"{constants.ENDPOINT}/settings/tokens, then sign in: hf auth login."
        )
    if status == 403:
        return (
            f"The token may not write to {repo_id!r} ({answer}). Use a name under your account or "
            f"organisation (hf auth whoami lists them), or a token with write access to it."
        )
    if status == 409:
        return f"Another process is changing {repo_id!r} right now ({answer}). {AGAIN}"
    if status == 429:
        return f"The Hub limits the rate of requests ({answer}). Wait a few minutes. {AGAIN}"
    if status >= 500:
        return f"The Hub has a server error ({answer}). Wait a few minutes. {AGAIN}"
    return f"The Hub refused the request for {repo_id!r} ({answer}). See {url}."


# ---- Finding a model: a model folder, a run, or a repository on the Hub.

MODEL_FILES = ("config.json", "model.safetensors")
PUBLISHED = ("*.json", "*.safetensors")  # no pickles or code are uploaded or downloaded
REPO_ID = re.compile(r"(?!.*(?:--|\.\.))\w[\w.-]*/\w(?:[\w.-]{0,94}\w)?(?<!\.git)", re.ASCII)
"""user/name, the Hub's rule."""


def check_repo_id(repo_id: str) -> None:
    """Refuse what is no `user/name`, with a ValueError."""
    if not REPO_ID.fullmatch(repo_id):
        raise ValueError(
            f"Not a valid repository name: {repo_id!r}. Give user/name or organisation/name, of letters, digits, "
            f"'-', '_' and '.', e.g. me/emodb-wavlm."
        )


def signed_in(token: str | None = None) -> str:
    """The token, or that of the user; a ValueError says how to sign in."""
    if not (found := token or get_token()):
        raise ValueError("Not signed in to the Hub: there is no token. Sign in with `hf auth login`, or set HF_TOKEN.")
    return found


def find_model(where: str | Path, *, fold: str | None = None, revision: str | None = None, **download: Any) -> Path:
    """The local folder of a model.

    Args:
        where: a model folder, a run (its refitted `model/`), or a Hub id `user/name`, which is downloaded unless it is
            cached; `HF_ENDPOINT`, `HF_HOME` and `HF_HUB_OFFLINE` apply.
        fold: for a run, the model of this fold instead.
        revision: for a Hub id, the branch, tag or commit.
        download: for a Hub id, `token`, `cache_dir` and `local_files_only` as in `huggingface_hub`.

    Raises:
        ValueError: there is no model; the message lists what was looked for.
        HubError: the Hub refused, or could not be reached.
    """
    folder = Path(where)
    if folder.exists():
        return local_model(folder, fold)
    if fold is not None or not REPO_ID.fullmatch(str(where)):
        raise ValueError(
            f"No model at {str(where)!r}: there is no such folder. Give a model folder, a run, or a Hub id user/name."
        )
    return _pull(str(where), revision, download)


def model_settings(where: str | Path, revision: str | None = None) -> Any:
    """The content of the config.json of a model's folder or Hub id; None of a run, and where there is none.

    Raises:
        HubError: the Hub refused, or could not be reached.
    """
    if (path := Path(where)).exists() or not REPO_ID.fullmatch(str(where)):
        is_run = (path / "model" / "config.json").is_file()
        return read_json(path / "config.json") if (path / "config.json").is_file() and not is_run else None
    with _pulling(str(where)):
        if try_to_load_from_cache(str(where), "config.json", revision=revision) is None:
            _find_hub()
        try:
            return read_json(Path(_again(lambda: hf_hub_download(str(where), "config.json", revision=revision))))
        except RemoteEntryNotFoundError:
            return None


def local_model(folder: Path, fold: str | None = None) -> Path:
    """The model folder that `folder` is or, as a run, holds; a ValueError lists what was looked for."""
    candidates = [folder, folder / "model"] if fold is None else [folder / "folds" / safe_name(fold) / "model"]
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
    """The name of a fold, from fold.json; without one (unfinished, or an earlier version) from the folder's name."""
    record = folder / "fold.json"
    name = read_json(record).get("name") if record.is_file() else None
    return str(name or unquote(folder.name))


@contextmanager
def _pulling(repo_id: str) -> Iterator[None]:
    """As `hub_errors`, for a name that may also have been meant as a folder."""
    try:
        with hub_errors(repo_id):
            yield
    except HubError as error:
        raise HubError(f"There is no folder {repo_id}, and it cannot be loaded from the Hub. {error}") from error


def _find_hub() -> None:
    """Try three times in 3 s whether the Hub is there; the client alone says in half a minute that it is not."""
    for wait in (1, 2, None):
        try:
            get_session().head(constants.ENDPOINT)
            return
        except httpx.ConnectError:  # refused, or no such host
            if wait is None:
                raise
            time.sleep(wait)
        except httpx.TransportError:  # slow, or broken off: what the client's own attempts are for
            return


def _again(download: Callable[[], Downloaded]) -> Downloaded:
    """Try a download three times in 3 s where the Hub hangs up on a HEAD request, which the client does not repeat."""
    for wait in (1, 2):
        try:
            return download()
        except (httpx.ReadError, httpx.RemoteProtocolError):
            time.sleep(wait)
    return download()


def _pull(repo_id: str, revision: str | None, download: dict[str, Any]) -> Path:
    with _pulling(repo_id):
        folder = _again(
            lambda: Path(snapshot_download(repo_id, revision=revision, allow_patterns=list(PUBLISHED), **download))
        )
    missing = [name for name in MODEL_FILES if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"{repo_id!r} on the Hub is not a model that Undertone trained: it has no {' and no '.join(missing)}."
        )
    return folder
