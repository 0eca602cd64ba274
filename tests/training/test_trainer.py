"""One training on real hidden states of the small corpus."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from undertone.common.console import Display
from undertone.downstream.network import trained_state
from undertone.downstream.task import Task
from undertone.experiments.open_run import open_run
from undertone.scoring.predictions import Predictions
from undertone.training.accelerator import accelerator_of
from undertone.training.prediction_loop import selected_by, selection_score
from undertone.training.seeding import epoch_batches
from undertone.training.settings import make_config
from undertone.training.trainer import Trainer, total_steps
from undertone.training.unlabelled import UnlabelledStream


@pytest.fixture
def opened(small_corpus, tmp_path_factory):
    """A function from settings to an opened run; the hidden states are computed once."""
    store = tmp_path_factory.getbasetemp() / "trainer-store"

    def open_with(*words, name="run"):
        settings = ["protocol=speaker", "batch_size=8", "head.hidden_size=16", "max_epochs=4", f"store={store}", *words]
        config = make_config({"corpus": str(small_corpus)}, settings)
        return open_run(config, tmp_path_factory.mktemp(name), Display(quiet=True))

    return open_with


def fit(run, folder, stop_at=None, dev=True, follow=lambda done, total, score: None):
    fold = run.folds[0]
    accelerator = accelerator_of(run.config)
    trainer = Trainer(run.config, run.tasks, run.source, run.new_downstream("x"), folder, accelerator, follow)
    train = run.manifest.select(fold.train)
    trained = trainer.fit(
        train, run.manifest.select(fold.dev) if dev else [], total_steps(run.config, len(train)), stop_at
    )
    return trainer, trained


@pytest.mark.parametrize("head, jitter", [("attention", 0.3), ("crnn", 0.1)])
def test_a_head_that_works_on_padding_too_trains_on_clips_of_like_length(opened, tmp_path, head, jitter):
    run = opened(f"head={head}", "head.hidden_size=8", "max_epochs=1")
    train, asked = run.manifest.select(run.folds[0].train), []

    class Watched:
        jitter = run.source.jitter

        def __call__(self, utterances):
            asked.append([train.index(item) for item in utterances])
            return run.source(utterances)

    fit(replace(run, source=Watched()), tmp_path, dev=False)
    ids, durations = [item.id for item in train], [item.duration for item in train]
    assert asked == epoch_batches(ids, durations, 8, run.config.seed, 0, jitter)


def draft_of_a_killed_process(target):
    """What `atomic_path` leaves of `target` when it is killed in the middle of it."""
    beside = target.with_name(f".{target.name}.x.tmp")
    beside.mkdir()
    (beside / target.name).write_bytes(b"half")


def same(first, second, atol=0.0):
    for name, value in first.module.state_dict().items():
        torch.testing.assert_close(second.module.state_dict()[name], value, atol=atol, rtol=0, msg=name)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(opened, tmp_path):
    first, _ = fit(opened(), tmp_path / "a", dev=False)
    torch.rand(7)
    second, _ = fit(opened(), tmp_path / "b", dev=False)
    same(first, second)
    third, _ = fit(opened("seed=1"), tmp_path / "c", dev=False)
    with pytest.raises(AssertionError):
        same(first, third)


def test_broken_off_and_resumed_gives_the_same_weights_bit_for_bit(opened, tmp_path):
    """Broken off in the middle of an epoch, by an exception out of the training loop; dropout is on."""
    whole, outcome = fit(opened("eval_every=3"), tmp_path / "whole")

    class Stopped(Exception):
        pass

    def stop_at_14(done, total, score):
        if done == 14:
            raise Stopped

    with pytest.raises(Stopped):
        fit(opened("eval_every=3"), tmp_path / "broken", follow=stop_at_14)
    for name in ("best/step-000000015.safetensors", "checkpoints/step-000000015"):
        draft_of_a_killed_process(tmp_path / "broken" / name)
    seen = []
    again, resumed = fit(opened("eval_every=3"), tmp_path / "broken", follow=lambda done, *_: seen.append(done))
    assert seen[0] == 13  # 12 was the last look, so nothing before it is done twice
    same(whole, again)
    assert resumed == outcome


def test_accumulation_gives_the_gradient_of_the_whole_batch(opened, tmp_path):
    whole, _ = fit(opened("head.dropout=0"), tmp_path / "whole", dev=False)
    parts, _ = fit(opened("head.dropout=0", "accumulation=3"), tmp_path / "parts", dev=False)
    same(whole, parts, atol=2e-5)


def test_dev_selects_and_patience_stops(opened, tmp_path):
    trainer, trained = fit(opened("max_epochs=40", "patience=2", "lr=0.01", "select_by=uar"), tmp_path / "run")
    scores = [record["dev"]["emotion"]["uar"] for record in trained.history]
    assert trained.best_score == max(scores)
    best_look = scores.index(max(scores))
    assert trained.best_step == trained.history[best_look]["step"]
    assert len(scores) == min(best_look + 1 + 2, 40)
    best = load_file(tmp_path / "run" / "best" / f"step-{trained.best_step:09d}.safetensors")
    assert all(torch.equal(value, best[name]) for name, value in trained_state(trainer.module).items())
    assert json.loads(json.dumps(trained.history)) == trained.history


def test_the_best_looks_are_averaged(opened, tmp_path):
    trainer, trained = fit(opened("average_top=3", "max_epochs=6", "select_by=uar"), tmp_path / "run")
    kept = [load_file(path) for path in sorted((tmp_path / "run" / "best").iterdir())]
    ranked = sorted(trained.history, key=lambda record: (-record["dev"]["emotion"]["uar"], record["step"]))[:3]
    names = {path.stem for path in (tmp_path / "run" / "best").iterdir()}
    assert names == {f"step-{record['step']:09d}" for record in ranked} and len(kept) == 3
    for name, value in trained_state(trainer.module).items():
        torch.testing.assert_close(value, (kept[0][name] + kept[1][name] + kept[2][name]) / 3)


def test_training_learns(opened, tmp_path):
    _, trained = fit(opened("max_epochs=15", "lr=0.01"), tmp_path / "run")
    losses = [record["train_loss"] for record in trained.history]
    assert losses[-1] < 0.7 * losses[0]


def test_values_are_selected_by_ccc(opened, tmp_path):
    _, trained = fit(opened("tasks=arousal", "max_epochs=12", "lr=0.003", "head.hidden_size=32"), tmp_path / "run")
    assert trained.best_score == max(record["dev"]["arousal"]["ccc"] for record in trained.history)
    _, outcome = fit(opened("tasks=emotion,arousal", "max_epochs=6", "lr=0.01", "average_top=2"), tmp_path / "two")
    means = [np.mean([one["dev"]["emotion"]["uar"], one["dev"]["arousal"]["ccc"]]) for one in outcome.history]
    assert outcome.best_score == pytest.approx(max(means))
    kept = sorted(int(path.stem.removeprefix("step-")) for path in (tmp_path / "two" / "best").iterdir())
    best = sorted(range(len(means)), key=lambda look: (-means[look], look))[:2]
    assert kept == sorted(outcome.history[look]["step"] for look in best)
    assert trained.history[-1]["train_loss"] < 0.7 * trained.history[0]["train_loss"]
    with pytest.raises(ValueError, match="select_by=uar does not fit task 'arousal'; allowed: ccc"):
        fit(opened("tasks=arousal", "select_by=uar"), tmp_path / "wrong")


def test_a_zero_weight_leaves_the_task_untrained(opened, tmp_path):
    run = opened("task_weights.gender=0", "weight_decay=0")
    trainer, _ = fit(run, tmp_path / "run", dev=False)
    before = run.new_downstream("x").state_dict()
    after = trainer.module.state_dict()
    key = "head.outputs.layers.task_{}.weight"
    assert torch.equal(after[key.format("gender")], before[key.format("gender")])
    assert not torch.equal(after[key.format("emotion")], before[key.format("emotion")])


def test_out_of_memory_halves_the_micro_batches_and_says_so(opened, tmp_path, caplog):
    """The allocator's own error, raised where a micro-batch holds more than three clips."""
    plain, _ = fit(opened("head.dropout=0"), tmp_path / "plain", dev=False)
    run = opened("head.dropout=0")
    fits = run.source

    class SmallMemory(type(fits)):
        def __call__(self, utterances):
            if len(utterances) > 3:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
            return super().__call__(utterances)

    run = replace(run, source=SmallMemory(fits.store))
    halved, _ = fit(run, tmp_path / "halved", dev=False)
    assert "from update 0 on, a batch is split into 2 micro-batches" in caplog.text
    assert "into 4 micro-batches" in caplog.text and "into 8" not in caplog.text
    same(plain, halved, atol=2e-5)


def test_the_schedule_does_not_change_when_stopped_early(opened, tmp_path):
    _, early = fit(opened("eval_every=4"), tmp_path / "early", stop_at=8)
    _, late = fit(opened("eval_every=4"), tmp_path / "late")
    assert early.history == late.history[:2]


def test_a_ladder_broken_off_and_resumed_gives_the_same_weights_bit_for_bit(opened, tmp_path):
    """Noise, dropout and the unlabelled batch are functions of seed and step alone; the decoder resumes as well."""
    words = ("head=dense", "head.hidden_size=16", "ladder=true", "eval_every=3")
    run = opened(*words)
    fold = run.folds[0]
    train, dev, others = (run.manifest.select(part) for part in (fold.train, fold.dev, fold.test))

    def trained(folder, follow=lambda done, total, score: None):
        stream = UnlabelledStream(others, 5, seed=0)
        accelerator = accelerator_of(run.config)
        trainer = Trainer(
            run.config, run.tasks, run.source, run.new_downstream("x"), folder, accelerator, follow, unlabelled=stream
        )
        trainer.fit(train, dev, 12)
        return trainer

    class Stopped(Exception):
        pass

    def stop_at_8(done, total, score):
        if done == 8:
            raise Stopped

    whole = trained(tmp_path / "whole")
    with pytest.raises(Stopped):
        trained(tmp_path / "broken", stop_at_8)
    again = trained(tmp_path / "broken")
    assert any("ladder" in name for name in whole.module.state_dict())
    same(whole, again)


def test_a_dev_score_that_is_not_defined_selects_nothing():
    task = Task("arousal", "regression", ("arousal",))
    known = np.array([0.5, np.nan, np.nan], dtype=np.float32)
    dev = Predictions(
        (task,), list("abc"), [""] * 3, [None] * 3, [None] * 3, {"arousal": np.ones((3, 1))}, {"arousal": known}
    )
    with pytest.raises(ValueError, match="ccc of 'arousal' is not defined on dev, which has no labels, too few"):
        selection_score(dev, None)
    enough = replace(dev, targets={"arousal": np.array([0.5, 0.2, np.nan], dtype=np.float32)})
    assert selection_score(enough, None)[0] == 0.0  # a constant answer


def test_the_mean_over_tasks_selects_and_a_task_without_labels_has_no_say():
    emotion = Task("emotion", "classification", ("angry", "sad"))
    arousal, valence = (Task(name, "regression", (name,)) for name in ("arousal", "valence"))
    scores = {"emotion": np.eye(2)[[0, 0, 1]], "arousal": np.array([[0.1], [0.2], [0.6]]), "valence": np.ones((3, 1))}
    truth = {
        "emotion": np.array([0, 1, 1]),
        "arousal": np.array([0.1, 0.4, 0.5], np.float32),
        "valence": np.full(3, np.nan, np.float32),
    }
    dev = Predictions((emotion, arousal, valence), list("abc"), [""] * 3, [None] * 3, [None] * 3, scores, truth)
    agreement = (
        2
        * np.cov(truth["arousal"], scores["arousal"][:, 0], bias=True)[0, 1]
        / (truth["arousal"].var() + scores["arousal"].var() + (truth["arousal"].mean() - scores["arousal"].mean()) ** 2)
    )
    score, metrics = selection_score(dev, None)
    assert score == pytest.approx((0.75 + agreement) / 2)
    assert selected_by(dev.tasks, None, metrics) == {"emotion": "uar", "arousal": "ccc"}
    assert selection_score(dev, "wa")[0] == pytest.approx(2 / 3)  # of the first task alone
