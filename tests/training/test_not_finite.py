"""An update that is NaN or infinite: named, written down, never taken; stop, or skip where that is asked for."""

import json

import pytest
import torch

from undertone.common.console import Display
from undertone.experiments.crossval import crossval
from undertone.experiments.open_run import open_run
from undertone.training.accelerator import accelerator_of
from undertone.training.settings import make_config
from undertone.training.trainer import Trainer, total_steps
from undertone.upstream.types import StoredStates

WORDS = ["protocol=speaker", "batch_size=8", "head.hidden_size=8", "max_epochs=2", "device=cpu"]


class Poisoned:
    """A source whose states of one utterance overflow, as those of a broken upstream would in training."""

    def __init__(self, source, utterance):
        self.source, self.utterance, self.jitter = source, utterance, source.jitter

    def __call__(self, utterances):
        rows = zip(self.source(utterances).rows, utterances, strict=True)
        return StoredStates(row * torch.inf if item.id == self.utterance else row for row, item in rows)


@pytest.fixture
def poisoned(small_corpus, tmp_path):
    def make(*words):
        config = make_config({"corpus": str(small_corpus)}, [*WORDS, f"store={tmp_path / 'store'}", *words])
        run = open_run(config, tmp_path / "run", Display(quiet=True))
        utterances = run.manifest.select(run.folds[0].train)
        source = Poisoned(run.source, utterances[3].id)
        trainer = Trainer(config, run.tasks, source, run.new_downstream("x"), tmp_path / "fold", accelerator_of(config))
        dev = run.manifest.select(run.folds[0].dev)
        return trainer, utterances, lambda: trainer.fit(utterances, dev, total_steps(config, len(utterances)))

    return make


def test_stop_names_the_update_and_takes_nothing_of_it(poisoned, tmp_path):
    trainer, utterances, fit = poisoned()
    with pytest.raises(ValueError, match=r"Update \d+ is not finite: loss nan.*not_finite.jsonl.*not_finite=skip"):
        fit()
    (entry,) = map(json.loads, (tmp_path / "fold" / "not_finite.jsonl").read_text().splitlines())
    assert utterances[3].id in entry["ids"] and len(entry["ids"]) <= 8 and entry["loss"] == "nan"
    assert all(torch.isfinite(value).all() for value in trainer.module.state_dict().values())


def test_skip_leaves_these_updates_out_and_goes_on(poisoned, tmp_path):
    trainer, utterances, fit = poisoned("not_finite=skip")
    trained = fit()
    entries = [json.loads(line) for line in (tmp_path / "fold" / "not_finite.jsonl").read_text().splitlines()]
    assert len(entries) == 2 and all(utterances[3].id in entry["ids"] for entry in entries)  # once an epoch
    assert all(torch.isfinite(value).all() for value in trainer.module.state_dict().values())
    assert all(record["train_loss"] is not None for record in trained.history)


@pytest.mark.parametrize("words", [[], ["sweep.learning_rate=1e-3,1e30"]], ids=["alone", "beside another rate"])
def test_trainings_side_by_side_stop_too(words, small_corpus, tmp_path):
    """At a learning rate of 1e30 the weights overflow after one update."""
    words = [*WORDS, "tasks=arousal", "regression_loss=mse", "head=linear", "schedule=constant", "warmup=0", *words]
    words += [] if len(words) > len(WORDS) + 5 else ["lr=1e30"]
    config = make_config({"corpus": str(small_corpus)}, [*words, f"store={tmp_path / 'store'}"])
    with pytest.raises(ValueError, match=r"Update \d+ is not finite: loss (nan|inf).*not_finite=skip"):
        crossval(config, tmp_path / "run", Display(quiet=True))
    assert list((tmp_path / "run").rglob("not_finite.jsonl")) and not list((tmp_path / "run").rglob("*.safetensors"))
