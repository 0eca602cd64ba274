"""The layer sum on synthetic hidden states of which one layer alone carries the class: its weight must show it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from undertone.corpora.manifest import Utterance
from undertone.downstream.network import Downstream, LiveModel
from undertone.downstream.task import Task
from undertone.experiments.run import adapted
from undertone.recipes.systems import load_system
from undertone.training.accelerator import accelerator_of
from undertone.training.config import RunConfig
from undertone.training.seeding import seed_everything
from undertone.training.sources import StoreSource
from undertone.training.stack.stacked_trainer import StackedTrainer, TrainingGroup
from undertone.training.trainer import Trainer, make_optimizer, total_steps
from undertone.upstream import load_upstream
from undertone.upstream.hf.random_weights import save_random
from undertone.upstream.streams import stream_shapes
from undertone.upstream.types import HiddenStates, one_stream

LAYERS, SIZE, RIGHT, TRAIN, DEV = 13, 16, 9, 320, 50
TASK = Task("emotion", "classification", ("angry", "happy", "neutral", "sad"))


class OneLayer:
    """Noise in all layers but one, as a source of the trainer."""

    jitter = StoreSource.jitter

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        directions = torch.randn(len(TASK.labels), SIZE, generator=generator)
        labels = torch.randint(len(TASK.labels), (TRAIN + DEV,), generator=generator).tolist()
        self.states = {}
        for number, label in enumerate(labels):
            states = 1.5 * torch.randn(LAYERS, 1, SIZE, generator=generator)
            states = states + 0.5 * torch.randn(LAYERS, 3, SIZE, generator=generator)  # (L, T, D)
            states[RIGHT] += directions[label]
            self.states[f"{number:03}"] = states
        self.clips = [
            Utterance(name, "", duration=1.0, speaker="one", emotion=TASK.labels[label])
            for name, label in zip(self.states, labels, strict=True)
        ]

    def __call__(self, utterances: Sequence[Utterance]) -> HiddenStates:
        return HiddenStates(
            torch.stack([self.states[item.id] for item in utterances]), torch.tensor([3] * len(utterances))
        )

    def means(self) -> Tensor:
        return torch.stack([self.states[item.id].mean(1) for item in self.clips], 1)  # (L, N, D)


@pytest.fixture(scope="module")
def source() -> OneLayer:
    return OneLayer()


def right_weight(source: OneLayer, folder: Path, head: str, stacked: bool, **settings: Any) -> float:
    """The weight of the only layer that counts, after a training with the default settings."""
    config = RunConfig(corpus="synthetic", head=head, tasks=("emotion",), device="cpu", **settings)
    seed_everything(0, "init")
    module = Downstream(one_stream(LAYERS, SIZE), (TASK,), head, {})
    train, dev, total = source.clips[:TRAIN], source.clips[TRAIN:], total_steps(config, TRAIN)
    if stacked:
        rows = {item.id: row for row, item in enumerate(source.clips)}
        group = TrainingGroup("fold", train, dev, (config,), total, folder)
        StackedTrainer([group], (TASK,), source.means(), rows, [[module]]).fit()
    else:
        Trainer(config, (TASK,), source, module, folder, accelerator_of(config)).fit(train, dev, total)
    return module.layer_sum.layer_weights()[RIGHT].item()


@pytest.mark.parametrize(
    ("head", "stacked"),
    [("linear", True), ("linear", False), pytest.param("attention", False, marks=pytest.mark.slow)],
)
def test_by_default_the_only_layer_that_counts_gets_most_of_the_weight(
    source: OneLayer, tmp_path: Path, head: str, stacked: bool
) -> None:
    assert right_weight(source, tmp_path, head, stacked) > 0.5


def test_in_one_group_with_the_head_it_hardly_moves(source: OneLayer, tmp_path: Path) -> None:
    """What `superb` keeps, as published, and what shows that the test above can fail."""
    assert load_system("superb")["layer_sum_learning_rate"] is None
    assert right_weight(source, tmp_path, "linear", True, layer_sum_learning_rate=None) < 0.25


@pytest.mark.parametrize("mode", ["frozen", "finetune", "lora"])
@pytest.mark.parametrize("rate", [0.05, None])
def test_every_weight_that_learns_is_in_one_group_with_its_rate(tmp_path: Path, mode: str, rate: float | None) -> None:
    upstream = load_upstream(str(save_random("tiny-wav2vec2", tmp_path / "tiny")))
    rates = {"learning_rate": 2e-3, "upstream_learning_rate": 3e-5, "layer_sum_learning_rate": rate}
    config = RunConfig(corpus="x", mode=mode, weight_decay=0.02, **rates)
    downstream = Downstream(stream_shapes(upstream), (TASK,), "attention", {})
    module = downstream if mode == "frozen" else LiveModel(adapted(upstream, config), downstream)
    found = {
        id(weight): (group["lr"], group["weight_decay"])
        for group in make_optimizer(config, module).param_groups
        for weight in group["params"]
    }
    names = {id(weight): name for name, weight in module.named_parameters() if weight.requires_grad}
    assert found.keys() == names.keys()
    for key, name in names.items():
        own = (rate, 0.0) if name.endswith("layer_sum.logits") and rate else (2e-3, 0.02)
        assert found[key] == ((3e-5, 0.02) if name.startswith("upstream.") else own), name


def test_the_logits_of_one_layer_have_no_gradient(source: OneLayer, tmp_path: Path) -> None:
    """Side by side with a learned sum, each layer alone keeps its weights exactly, for heads of both kinds of stack."""
    config = RunConfig(corpus="synthetic", head="linear", tasks=("emotion",), device="cpu", max_epochs=2)
    configs, modules = [config], [Downstream(one_stream(LAYERS, SIZE), (TASK,), "linear", {})]
    for layer in (0, RIGHT):
        configs.append(config.model_copy(update={"layers": layer}))
        modules.append(Downstream(one_stream(LAYERS, SIZE), (TASK,), "linear", {}))
        modules[-1].layer_sum.select(layer)
    rows = {item.id: row for row, item in enumerate(source.clips)}
    train, dev = source.clips[:TRAIN], source.clips[TRAIN:]
    group = TrainingGroup("fold", train, dev, tuple(configs), total_steps(config, TRAIN), tmp_path)
    StackedTrainer([group], (TASK,), source.means(), rows, [modules]).fit()
    weights = [module.layer_sum.layer_weights() for module in modules]
    assert 0 < float((weights[0] - 1 / LAYERS).abs().max())
    np.testing.assert_array_equal(weights[1], np.eye(LAYERS)[0])
    np.testing.assert_array_equal(weights[2], np.eye(LAYERS)[RIGHT])
