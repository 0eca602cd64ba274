"""Keep transformers silent where what matters is checked and said here."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers.utils import logging as transformers_logging


def _no_bar(factory: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return transformers_logging.EmptyTqdm(*args, **kwargs)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No load report, no bar over a local file (downloads keep theirs), no converter thread of transformers."""
    verbosity, variable = transformers_logging.get_verbosity(), "DISABLE_SAFETENSORS_CONVERSION"
    before = os.environ.get(variable)
    os.environ[variable] = "1"  # else a .bin on the Hub starts a thread that asks a bot there for a pull request
    hook = transformers_logging.set_tqdm_hook(_no_bar)
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
