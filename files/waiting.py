"""A Hub that accepts a connection and never answers is waited for no longer than its own settings say."""

from __future__ import annotations

from typing import Any

from huggingface_hub import constants
from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

UPLOAD_SECONDS = 60.0  # the Hub may take its time over a commit
ASKING = ("GET", "HEAD")


def limit_waiting() -> None:
    """Bound how long any request of `huggingface_hub` waits for the next piece of an answer.

    The client asks for a model's commit without a limit, so that a silent server holds it for ever, and for a file's
    size with six times 60 s. Here nothing that is asked for waits longer than `HF_HUB_DOWNLOAD_TIMEOUT` or
    `HF_HUB_ETAG_TIMEOUT`, the larger one (10 s); the client's retries remain.
    """
    client = get_session()
    hooks = client.event_hooks
    if _limit not in hooks["request"]:
        client.event_hooks = hooks | {"request": [*hooks["request"], _limit]}


def _limit(request: Any) -> None:
    asked = float(max(constants.HF_HUB_DOWNLOAD_TIMEOUT, constants.HF_HUB_ETAG_TIMEOUT))
    limit = asked if request.method in ASKING else UPLOAD_SECONDS
    given = request.extensions.get("timeout") or {}
    request.extensions["timeout"] = {
        part: min(limit, given.get(part) or limit) for part in ("connect", "read", "write", "pool")
    }
