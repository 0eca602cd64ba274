"""What the Hub's client raises, as one error whose message is a sentence with the way out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # exported for users through __getattr__

from undertone.files.waiting import limit_waiting

AGAIN = "Run the same command again: what was already sent is not sent twice."


class HubError(OSError):
    """The Hub refused, or was not reached; the message says what to do."""


@contextmanager
def hub_errors(repo_id: str) -> Iterator[None]:
    """Turn the client's errors inside the block into a `HubError` about `repo_id`, and let no request wait for ever."""
    limit_waiting()
    try:
        yield
    except (httpx.HTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, RuntimeError) as error:
        reason = _reason(error)
        if reason is None:
            raise
        raise HubError(explain(reason, repo_id)) from error


def _reason(error: BaseException | None) -> Exception | None:
    """The first error in the chain of causes that says what happened; an upload wraps its own in a RuntimeError."""
    while error is not None:
        if isinstance(error, (httpx.HTTPError, OfflineModeIsEnabled)):
            return error
        error = error.__cause__
    return None


def explain(error: Exception, repo_id: str) -> str:
    """One sentence or two about `error`: what was asked, what the Hub answered, what to do next."""
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
            f"The Hub has no model {repo_id!r}, or it is private and you are not signed in as one who may read it "
            f"({answer}). Check the name, or sign in: hf auth login."
        )
    if status == 401:
        return (
            f"The Hub does not accept the token ({answer}). Make one with write access at "
            f"{constants.ENDPOINT}/settings/tokens, then sign in: hf auth login."
        )
    if status == 403:
        return (
            f"The token may not write to {repo_id!r} ({answer}). Take a name under your own account or "
            f"organisation (hf auth whoami lists them), or a token with write access to it."
        )
    if status == 409:
        return f"Something else is changing {repo_id!r} right now ({answer}). {AGAIN}"
    if status == 429:
        return f"The Hub asks for a pause ({answer}). Wait a few minutes. {AGAIN}"
    if status >= 500:
        return f"The Hub is in trouble ({answer}). Wait a few minutes. {AGAIN}"
    return f"The Hub refused the request for {repo_id!r} ({answer}). See {url}."
