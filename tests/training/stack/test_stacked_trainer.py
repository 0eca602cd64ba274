"""Stacked trainings against the same trainings one by one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from undertone.common.console import Display
from undertone.downstream.losses import ccc
from undertone.downstream.network import Downstream
from undertone.experiments.open_run import open_run
from undertone.experiments.run import Run
from undertone.training.accelerator import accelerator_of
from undertone.training.config import with_values
from undertone.training.seeding import epoch_batches
from undertone.training.settings import make_config
from undertone.training.stack.stacked_trainer import StackedTrainer, TrainingGroup
from undertone.training.targets import targets
from undertone.training.trainer import NotFiniteError, Trained, Trainer, total_steps
from undertone.upstream.hf.random_weights import save_random
from undertone.upstream.types import HiddenStates

RATES = (1e-1, 1e-3, 1e-5)
Opened = Callable[..., Run]


@pytest.fixture
def opened(small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """A function from settings to an opened run; a third of the emotions and values are not known."""
    base = tmp_path_factory.getbasetemp()
    if not (base / "tiny").exists():
        save_random("tiny-wavlm", base / "tiny")
    lines = small_corpus.read_text().splitlines()
    for row in range(3, len(lines), 3):
        lines[row] = ",".join([*lines[row].split(",")[:3], "", ""])
    table = small_corpus.with_name("partly.csv")
    table.write_text("\n".join(lines) + "\n")

    def open_with(*words: str) -> Run:
        settings = [
            "head=linear",
            "protocol=speaker",
            "batch_size=7",
            "head.hidden_size=8",
            f"store={base / 'stacked-store'}",
        ]
        settings += ["tasks=emotion,gender,arousal", *words]
        config = make_config({"corpus": str(table), "upstream": str(base / "tiny")}, settings)
        return open_run(config, tmp_path_factory.mktemp("run"), Display(quiet=True))

    return open_with


def groups_of(run: Run, seeds: tuple[int, ...] = (0, 1), rates: tuple[float, ...] = RATES) -> list[TrainingGroup]:
    """Two folds with each seed, at all rates."""
    return [
        TrainingGroup(
            fold.name,
            run.manifest.select(fold.train),
            run.manifest.select(fold.dev),
            tuple(with_values(run.config, {"seed": seed, "learning_rate": rate}) for rate in rates),
            total_steps(run.config, len(fold.train)),
            run.folder.fold(fold.name),
        )
        for fold in run.folds[:2]
        for seed in seeds
    ]


def untrained(run: Run, group: TrainingGroup) -> list[Downstream]:
    return [run.new_downstream(group.name, config) for config in group.configs]


def stack(
    run: Run, groups: list[TrainingGroup], dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> StackedTrainer:
    everyone = list(run.manifest)
    modules = [[module.to(device, dtype) for module in untrained(run, group)] for group in groups]
    rows = {item.id: row for row, item in enumerate(everyone)}
    return StackedTrainer(groups, run.tasks, run.source.means(everyone).to(device, dtype), rows, modules)


def reference(run: Run, group: TrainingGroup, module: Downstream, config, steps: int) -> dict[str, Tensor]:
    """The weights after `steps` updates, written plainly: torch's own losses, clipping and AdamW, in float64."""
    logits, rate = module.layer_sum.logits, config.layer_sum_learning_rate
    groups = [{"params": list(module.parameters())}]  # SUPERB's single group
    if rate is not None:
        groups = [
            {"params": [weight for weight in module.parameters() if weight is not logits]},
            {"params": [logits], "lr": rate, "weight_decay": 0.0},
        ]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay)
    peaks = [group["lr"] for group in optimizer.param_groups]
    ids, durations = [item.id for item in group.train], [item.duration for item in group.train]
    done = epoch = 0
    while done < steps:
        for batch in epoch_batches(ids, durations, config.batch_size, config.seed, epoch, run.source.jitter):
            clips = [group.train[index] for index in batch]
            hidden = run.source(clips)
            output = module(HiddenStates(hidden.states.double(), hidden.lengths))
            loss = 0.0
            for task in run.tasks:
                truth = torch.from_numpy(targets(task, clips))
                if task.has_classes:
                    loss = loss + F.cross_entropy(output.logits[task.name], truth, ignore_index=-1)
                elif (known := ~truth.isnan()).sum() > 1:
                    loss = loss + 1 - ccc(output.logits[task.name][known, 0], truth[known].double())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), config.clip_norm)
            for settings, peak in zip(optimizer.param_groups, peaks, strict=True):
                settings["lr"] = peak * min(1.0, (done + 1) / (config.warmup * steps))
            optimizer.step()
            done += 1
            if done == steps:
                break
        epoch += 1
    return dict(module.state_dict())


@pytest.mark.parametrize("layer_sum", ["0.1", pytest.param("null", marks=pytest.mark.slow)])
def test_50_float64_updates_at_every_rate_are_those_of_one_by_one(layer_sum: str, opened: Opened) -> None:
    """With a rate of its own for the layer sum, and in one group with the head, as in SUPERB."""
    words = ("max_steps=50", "eval_every=50", "schedule=constant", "warmup=0.2", f"layer_sum_learning_rate={layer_sum}")
    run = opened(*words)
    # Without dev the last weights are kept.
    groups = [replace(group, dev=[]) for group in groups_of(run)]
    trainer = stack(run, groups, torch.float64)
    before = [[copy.deepcopy(module) for module in row] for row in trainer.modules]
    trainer.fit()
    for group, start, end in zip(groups, before, trainer.modules, strict=True):
        for config, module, stacked in zip(group.configs, start, end, strict=True):
            drawn = {name: value.clone() for name, value in module.state_dict().items()}
            expected = reference(run, group, module, config, 50)
            for name, value in stacked.state_dict().items():
                torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=0, msg=f"{config.learning_rate}")
            moved = max(float((stacked.state_dict()[name] - value).abs().max()) for name, value in drawn.items())
            assert moved > 10 * config.learning_rate  # so that the comparison compares something


def one_by_one(run: Run, group: TrainingGroup, place: int, folder: Path) -> tuple[Trainer, Trained]:
    config = group.configs[place]
    module = untrained(run, group)[place]
    trainer = Trainer(config, run.tasks, run.source, module, folder, accelerator_of(config))
    return trainer, trainer.fit(group.train, group.dev, group.total, group.stop_at)


def same_history(found: list[dict], expected: list[dict]) -> None:
    assert [{**record, "train_loss": 0, "dev": 0} for record in found] == [
        {**record, "train_loss": 0, "dev": 0} for record in expected
    ]
    for own, other in zip(found, expected, strict=True):
        assert own["train_loss"] == pytest.approx(other["train_loss"], abs=1e-5)
        for task, metrics in other["dev"].items():
            assert own["dev"][task] == pytest.approx(metrics, abs=1e-5)


@pytest.mark.parametrize(
    "words",
    [
        ("eval_every=5", "max_steps=20", "average_top=2"),
        (
            "max_epochs=8",
            "class_weights=balanced",
            "label_smoothing=0.1",
            "focal_gamma=2",
            "task_weights.gender=0.2",
            "patience=3",
        ),
        ("max_epochs=5", "regression_loss=mse", "tasks=arousal,gender", "schedule=cosine"),
    ],
)
def test_selection_history_and_weights_are_the_trainers(words: tuple[str, ...], opened: Opened, tmp_path: Path) -> None:
    """In float32 up to a rate of 1e-3; folds whose epochs have different lengths side by side."""
    run = opened("layer_sum_learning_rate=1e-3", *words)
    groups = groups_of(run, rates=(1e-3, 1e-4))
    shorter = groups[1].train[:-9]
    groups[1] = replace(groups[1], train=shorter, total=total_steps(run.config, len(shorter)))
    trainer = stack(run, groups)
    outcomes = trainer.fit()
    for number, (group, row) in enumerate(zip(groups, outcomes, strict=True)):
        for place, trained in enumerate(row):
            other, expected = one_by_one(run, group, place, tmp_path / f"{number}-{place}")
            same_history(trained.history, expected.history)
            assert trained.best_step == expected.best_step
            assert trained.best_score == pytest.approx(expected.best_score, abs=1e-5)
            for name, value in trainer.modules[number][place].state_dict().items():
                torch.testing.assert_close(value, other.module.state_dict()[name], atol=1e-5, rtol=0)


def test_a_training_in_a_stack_does_not_see_the_others(opened: Opened) -> None:
    """One training's weights are spoilt, the others' stay as they are alone."""
    run = opened("max_steps=10")
    groups = [replace(group, dev=[]) for group in groups_of(run, rates=(1e-2, 1e-3, 1e-4))]
    alone, spoilt = stack(run, groups), stack(run, groups)
    spoilt.stack.flat_weights[1, 2] *= 1e3
    alone.fit()
    spoilt.fit()
    for place, row in enumerate(spoilt.modules):
        for run_number, module in enumerate(row):
            first, second = module.state_dict(), alone.modules[place][run_number].state_dict()
            equal = all(np.array_equal(first[name], second[name]) for name in first)
            assert equal == ((place, run_number) != (1, 2))


def test_stopped_early_the_schedule_is_the_same(opened: Opened, tmp_path: Path) -> None:
    run = opened("max_steps=40", "eval_every=10")
    (first, *_) = groups_of(run, rates=(1e-3, 1e-4))
    early = replace(first, stop_at=17)
    ((trained, _),) = stack(run, [early]).fit()
    _, expected = one_by_one(run, early, 0, tmp_path)
    same_history(trained.history, expected.history)
    assert trained.history[-1]["step"] == 17


@pytest.mark.gpu
def test_updates_on_a_gpu_give_what_updates_on_a_cpu_give(opened: Opened) -> None:
    run = opened("max_steps=60", "eval_every=20", "class_weights=balanced", "focal_gamma=1")
    groups, trained = groups_of(run), {}
    for device in ("cpu", "cuda"):
        trainer = stack(run, groups, torch.float64, device)
        histories = [[one.history for one in row] for row in trainer.fit()]
        weights = [module.cpu().state_dict() for modules in trainer.modules for module in modules]
        trained[device] = weights, [record["train_loss"] for row in histories for one in row for record in one]
    assert trained["cuda"][1] == pytest.approx(trained["cpu"][1], rel=1e-6)
    for own, expected in zip(trained["cuda"][0], trained["cpu"][0], strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.gpu
def test_a_gpu_names_the_update_that_is_not_finite(opened: Opened) -> None:
    run = opened("max_steps=60", "tasks=emotion")
    trainer = stack(run, groups_of(run), device="cuda")
    trainer.means[:, trainer.running[0].rows[:2]] = torch.nan
    with pytest.raises(NotFiniteError, match="not finite"):
        trainer.fit()
