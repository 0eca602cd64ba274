"""The head `average`: each stream trained as a run of that stream alone trains it, and put into one model."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from undertone import load_model
from undertone.common.console import Display
from undertone.experiments import run_fold
from undertone.experiments.fitted_heads import choose
from undertone.experiments.open_run import open_run
from undertone.experiments.run import Run
from undertone.experiments.run_fold import fit, train_fold
from undertone.training.accelerator import accelerator_of
from undertone.training.config import trials
from undertone.training.settings import make_config
from undertone.upstream.hf.random_weights import save_random

WORDS = ["protocol=groups", "num_folds=2", "batch_size=16", "max_steps=4", "eval_every=2", "tasks=emotion,gender"]
NETWORK, SOLVER = "{head: crnn, channels: [2], strides: [[4, 4]], hidden_size: 4}", "{head: logistic, C: 1e-3}"
ALONE = {
    "fbank": ("head=crnn", "head.channels=[2]", "head.strides=[[4,4]]", "head.hidden_size=4"),
    "functionals": ("head=logistic", "head.C=1e-3", "dev=fold"),
}
Opened = Callable[..., Run]


@pytest.fixture
def opened(small_corpus: Path, tmp_path: Path) -> Opened:
    def run(upstream: str, *words: str) -> Run:
        config = make_config({"corpus": str(small_corpus), "upstream": upstream}, [*WORDS, *words])
        name = str(len(list(tmp_path.iterdir())))
        return open_run(config, tmp_path / name, Display(quiet=True))

    return run


def average(solver: str = SOLVER) -> tuple[str, ...]:
    return ("head=average", f"head.heads={{fbank: {NETWORK}, functionals: {solver}}}")


def test_it_predicts_the_mean_of_the_runs_of_each_stream(opened: Opened) -> None:
    """The network selected on dev, batch norm statistics and the solver's scaler included; saved and loaded."""
    run = opened("fbank+functionals", *average())
    fold = run.folds[0]
    train_fold(run, fold, "")
    logs = []
    for stream, words in ALONE.items():
        one = opened(f"{stream}={stream}", *words)
        train_fold(one, fold, "")
        logs.append({name: np.log(own) for name, own in one.folder.fold_predictions(fold.name).scores.items()})
    place = run.folder.fold(fold.name)
    tested = run.folder.fold_predictions(fold.name)
    for task, scores in tested.scores.items():
        product = np.exp((logs[0][task] + logs[1][task]) / 2)
        np.testing.assert_allclose(scores, product / product.sum(1, keepdims=True), atol=1e-5)
    assert not (place / "alone").exists()
    clips = run.manifest.select(tested.ids[:3])
    rows = load_model(place / "model").predict([clip.path for clip in clips])
    labels = tested.tasks[0].labels
    found = [[row["emotion"]["scores"][label] for label in labels] for row in rows]
    np.testing.assert_allclose(found, tested.scores["emotion"][:3], atol=2e-4)  # stored frames have 16 bits


@pytest.mark.parametrize("words", [(), ("dev=fold",)], ids=["default", "fold"])
def test_of_several_C_inner_folds_over_the_utterances_to_learn_from_choose(
    opened: Opened, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """The dev part has no say, also with dev=fold."""
    run = opened("fbank+functionals", *average("{head: logistic, C: [1e-5, 1e-2, 10]}"), *words)
    own = run.training(run.folds[0], trials(run.config)[0])
    accelerator = accelerator_of(run.config)
    module, trained = fit(own, accelerator, tmp_path / "fit", own.train, own.dev)
    alone = own.alone("functionals")
    inner = replace(alone, fold=replace(alone.fold, dev=()), config=alone.config.model_copy(update={"dev": None}))
    chosen = choose(inner, inner.new_downstream(), accelerator, lambda *done: None)
    assert len(chosen.chosen_by.split("inner folds over the training speakers")) == 2
    expected, _ = fit(alone.with_values(chosen.chosen), accelerator, tmp_path / "solver", own.train, own.dev)
    state = expected.state_dict()
    mine = {name: value for name, value in module.state_dict().items() if name.startswith("head.heads.functionals.")}
    assert mine and all(torch.equal(v, state[n.replace("heads.functionals.", "")]) for n, v in mine.items())
    assert trained.best_score is not None and trained.best_step in (2, 4)
    assert trained.streams["functionals"]["C"] == chosen.chosen["head.C"] and chosen.chosen_by in trained.chosen_by


def test_a_killed_fold_goes_on_and_ends_the_same(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after the network's first evaluation; the same command then gives the same predictions."""
    whole, killed = (opened("fbank+functionals", *average()) for _ in range(2))
    train_fold(whole, whole.folds[0], "")
    evaluated = []

    def stop(done: int, total: int, score: float | None) -> None:
        evaluated.append(done)
        if done >= 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(run_fold, "_follow", lambda advance: stop)
        train_fold(killed, killed.folds[0], "")
    place = killed.folder.fold(killed.folds[0].name)
    assert evaluated and (place / "alone" / "fbank" / "checkpoints").is_dir() and not (place / "fold.json").exists()
    train_fold(killed, killed.folds[0], "")
    for task in ("emotion", "gender"):
        found = [run.folder.fold_predictions(run.folds[0].name).scores[task] for run in (whole, killed)]
        np.testing.assert_array_equal(*found)


def test_each_stream_s_layer_sum_is_the_one_it_learned(opened: Opened, tmp_path: Path) -> None:
    """Also that of a stream called as the only one is, and beside streams with the names of parts of a head."""
    save_random("tiny-wav2vec2", tmp_path / "ssl")
    heads = "head.heads={speech: {head: linear, hidden_size: 4}, outputs: logistic}"
    run = opened(f"speech={tmp_path / 'ssl'}+outputs=mfcc", "head=average", heads, "layer_sum_learning_rate=0.5")
    own = run.training(run.folds[0], trials(run.config)[0])
    accelerator = accelerator_of(run.config)
    module, trained = fit(own, accelerator, tmp_path / "both", own.train, own.dev)
    alone, _ = fit(own.alone("speech"), accelerator, tmp_path / "alone", own.train, own.dev)
    weights = [one.layer_sums["speech"].layer_weights() for one in (module, alone)]
    assert torch.equal(*weights) and weights[0].std() > 0.01
    assert trained.streams["outputs"] == {} and trained.streams["speech"]["best_step"] == trained.best_step


def test_a_stream_that_learns_beside_one_that_is_frozen(opened: Opened, tmp_path: Path) -> None:
    """`mode` of the run is that of streams without their own."""
    save_random("tiny-wav2vec2", tmp_path / "ssl")
    words = ("head=average", "head.heads={ssl: {head: linear, hidden_size: 4}, mfcc: logistic}", "mode=finetune")
    run = opened(f"ssl={tmp_path / 'ssl'}+mfcc", *words, "streams.mfcc.mode=frozen", "upstream_learning_rate=1e-2")
    train_fold(run, run.folds[0], "")
    saved = load_file(run.folder.fold(run.folds[0].name) / "model" / "model.safetensors")
    first = run.new_module("x").upstream.state_dict()
    assert any(
        not torch.equal(saved[f"upstream.{name}"], value) for name, value in first.items() if ".layers.1." in name
    )
    with pytest.raises(ValueError, match="mode=finetune has no meaning for it"):
        opened(f"ssl={tmp_path / 'ssl'}+mfcc", *words)
    with pytest.raises(ValueError, match="mode=lora has no meaning for it"):
        opened(f"ssl={tmp_path / 'ssl'}+mfcc", "head=average", "head.heads={ssl: svm}", "streams.ssl.mode=lora")


BOTH = "fbank+mfcc"


def test_refitted_on_dev_both_learn_from_it_and_the_calibration_is_that_of_before(opened: Opened) -> None:
    once, again = (
        opened("fbank+functionals", *average(), "num_folds=4", f"refit_on_dev={refit}") for refit in ("false", "true")
    )
    records = []
    for run in (once, again):
        train_fold(run, run.folds[0], "")
        place = run.folder.fold(run.folds[0].name)
        weights = load_file(place / "model" / "model.safetensors")
        records.append((json.loads((place / "fold.json").read_text()), weights))
    (first, before), (second, after) = records
    assert first["calibration"].keys() == second["calibration"].keys() == {"emotion", "gender"}
    for task, own in first["calibration"].items():
        assert own["temperature"] == pytest.approx(second["calibration"][task]["temperature"], rel=1e-4)
    assert first["best_step"] == second["best_step"] and first["streams"] == second["streams"]
    for name in ("downstream.head.heads.fbank.embed.weight", "downstream.head.heads.functionals.mean"):
        assert not torch.equal(before[name], after[name])


@pytest.mark.parametrize(
    ("upstream", "words", "said"),
    [
        ("fbank", ("head=average",), "The head average takes several upstreams, got one"),
        (
            BOTH,
            ("head=average", "alone_first=true"),
            "trains each stream alone and nothing else. Leave alone_first out",
        ),
        (BOTH, ("head=average", "ladder=true"), "trains each stream alone and nothing else. Leave ladder out"),
        (BOTH, ("head=average", "mean_teacher=1", "unlabelled=x"), "Leave mean_teacher and unlabelled out"),
        (BOTH, ("head=average", "fusion=late"), "takes the streams as they are, got fusion=late"),
        (BOTH, ("head=average", "dev=inner"), "dev=inner is for a head that a solver fits"),
        (
            BOTH,
            ("head=average", "sweep={head.heads: [{mfcc: svm}, {mfcc: logistic}]}"),
            "are not swept. Several C are given in heads, as {head: lo",
        ),
        (BOTH, ("head=average", "head.C=1"), "Head 'average' has no option 'C'"),
        (BOTH, ("head=average", "head.heads={nosuch: svm}"), "heads has 'nosuch', and the streams are fbank, mfcc"),
        (BOTH, ("head=average", "head.heads=svm"), "heads must be {stream: head}, such as {ssl: attention}, got 'svm'"),
        (BOTH, ("head=average", "head.heads={mfcc: {head: linear, C: [1, 2]}}"), "Head 'linear' has no option 'C'"),
        (BOTH, ("head=average", "head.heads={mfcc: svm}", "focal_gamma=2"), "focal_gamma=2.0 has no meaning"),
        (BOTH, ("head=average", "head.heads={mfcc: svm}", "augment.speed=0.1"), "fitted once, so its input"),
    ],
)
def test_what_does_not_go_with_it(
    opened: Opened, tmp_path: Path, upstream: str, words: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        opened(upstream, *words)
    assert not list(tmp_path.glob("*/config.json")), "the right command may have the same --out"
