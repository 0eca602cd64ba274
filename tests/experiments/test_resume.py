"""A run that is interrupted after its last training resumes without training anything again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from undertone.common.console import Display
from undertone.experiments.crossval import crossval, train
from undertone.training.settings import make_config
from undertone.training.trainer import Trainer


class KilledError(BaseException):
    """As if the process ended here."""


@pytest.mark.parametrize(
    ("verb", "where", "settings"),
    [
        (train, "run_fold.write_fold", ()),
        pytest.param(train, "run_fold.write_fold", ("refit_on_dev=true",), marks=pytest.mark.slow),
        (crossval, "crossval.pool", ()),
        (crossval, "crossval.write_results", ()),
    ],
    ids=["a fold", "a fold refitted on dev", "all speakers", "results"],
)
def test_what_was_trained_is_not_trained_again(
    verb: Callable[..., Any],
    where: str,
    settings: tuple[str, ...],
    small_corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Interrupted where its outcome is about to be written."""
    words = ["protocol=speaker", "max_steps=2", "head.hidden_size=8", f"store={tmp_path / 'store'}", *settings]
    config = make_config({"corpus": str(small_corpus)}, words)
    out, updates = tmp_path / "run", []
    update = Trainer._update

    def killed(*arguments: Any, **found: Any) -> None:
        raise KilledError

    def counted(*arguments: Any) -> float:
        updates.append(arguments)
        return update(*arguments)

    monkeypatch.setattr(Trainer, "_update", counted)
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(f"undertone.experiments.{where}", killed)
        verb(config, out, display=Display(quiet=True))
    assert updates and not (out / "results.json").exists()
    updates.clear()
    assert verb(config, out, display=Display(quiet=True)) is not None
    assert not updates and (out / "results.json").is_file() and (out / "model").is_dir()
    assert not [path for path in out.rglob("*") if path.name in ("checkpoints", "best", "both", "refit")]
