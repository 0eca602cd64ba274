"""Every setting of a training does what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from undertone.experiments.robustness import robustness
from undertone.tests.cli.commands import TINY, undertone
from undertone.tests.cli.runs import LAST, Train, distance, fold, history, results, rows_of, weights, write_table
from undertone.upstream.hf.random_weights import save_random


def rates(run: Path) -> list[float]:
    return [record["lr"] for record in history(run)]


def norm(run: Path) -> float:
    return sum(float(value.square().sum()) for value in weights(run).values())


def test_seed_decides_the_weights(trained: Train) -> None:
    assert distance(trained(), trained("seed=0")) == 0
    assert distance(trained(), trained("seed=1")) > 1e-2


def test_seeds_train_every_fold_with_each(trained: Train) -> None:
    run = trained("seeds=0,1")
    assert [trial["seed"] for trial in fold(run)["trials"]] == results(run)["seeds"] == [0, 1]
    for seed in (0, 1):
        alone, among = trained(f"seed={seed}"), next(run.glob(f"folds/F1/seed={seed}"))
        assert (among / "model" / "model.safetensors").read_bytes() == (
            alone / "folds" / "F1" / "model" / "model.safetensors"
        ).read_bytes()


def test_sweep_takes_the_value_that_is_best_on_dev(trained: Train) -> None:
    words = ("tasks=arousal", "max_epochs=4")
    tried = {rate: fold(trained(*words, f"lr={rate}"))["dev_score"] for rate in (1e-12, 0.01)}
    worse, best = sorted(tried, key=tried.__getitem__)
    run = trained(*words, f"sweep.learning_rate={worse},{best}")  # the first of the two is not the one to take
    assert [trial["dev_score"] for trial in fold(run)["trials"]] == [tried[worse], tried[best]]
    assert fold(run)["chosen"] == {"learning_rate": best} and tried[worse] < tried[best]
    assert distance(run, trained(*words, f"lr={best}")) == 0


@pytest.mark.slow
def test_sampling_balanced_lets_a_small_corpus_count_as_much(
    small_corpus: Path, trained: Train, store: Path, tmp_path: Path
) -> None:
    """Training by gradients draws other utterances, a solver fits repeated ones; the number of updates is the same."""
    whole = [row | {"corpus": "b" if row["speaker"] == "M2" else "a"} for row in rows_of(small_corpus)]
    rows = [row for number, row in enumerate(whole) if row["corpus"] == "a" or number % 4 == 0]  # 16 and 4 in train
    table, ways = write_table(tmp_path / "two.csv", rows), ("proportional", "balanced")
    plain, balanced = (trained(f"sampling={how}", LAST, corpus=table) for how in ways)
    assert distance(plain, balanced) > 1e-4 and history(plain)[-1]["step"] == history(balanced)[-1]["step"]
    words = ("train", table, "--store", store, "upstream=mfcc", "head=ridge", "device=cpu", "tasks=emotion")
    for how in ways:
        outcome = undertone(*words, f"sampling={how}", "--out", tmp_path / how)
        assert outcome.status == 0, outcome.err
    assert distance(*(tmp_path / how for how in ways)) > 1e-4


def test_learning_rate_is_the_peak(trained: Train) -> None:
    assert max(rates(trained())) == 1e-3
    assert max(rates(trained("learning_rate=2e-5"))) == 2e-5
    assert distance(trained("lr=1e-12", LAST), trained(LAST)) > 1e-3


@pytest.mark.slow
def test_layer_sum_learning_rate_is_the_layer_sums_own(
    trained: Train, small_corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    upstream = save_random("tiny-wav2vec2", tmp_path_factory.mktemp("own") / "upstream")
    words = (f"upstream={upstream}", "head=linear", "max_steps=2", LAST)
    own, slow, group = (trained(*words, f"layer_sum_learning_rate={rate}") for rate in ("0.1", "1e-6", "null"))
    logits = "layer_sum.logits"
    assert 1e-2 < weights(own)["downstream." + logits].abs().max() < 1
    assert weights(slow)["downstream." + logits].abs().max() < 1e-5
    assert 1e-5 < weights(group)["downstream." + logits].abs().max() < 1e-2
    assert distance(own, trained(*words)) == 0, "the default"


def test_weight_decay_shrinks_the_weights(trained: Train) -> None:
    assert norm(trained("weight_decay=100", LAST)) < 0.8 * norm(trained("weight_decay=0", LAST))


def test_warmup_is_the_share_of_steps_with_a_rising_rate(trained: Train) -> None:
    assert rates(trained("warmup=1")) == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3])
    assert rates(trained("warmup=0")) == pytest.approx([1e-3, 0.75e-3, 0.5e-3, 0.25e-3])


def test_schedule_is_how_the_rate_falls(trained: Train) -> None:
    assert rates(trained("warmup=0", "schedule=constant")) == pytest.approx([1e-3] * 4)
    assert rates(trained("warmup=0", "schedule=cosine")) == pytest.approx(
        [1e-3, 0.853553e-3, 0.5e-3, 0.146447e-3], rel=1e-5
    )


def test_clip_norm_bounds_the_gradient(trained: Train) -> None:
    """Far below AdamW's epsilon, a gradient moves nothing: the weights stay as they are at a rate of almost 0."""
    untrained = trained("lr=1e-12", "weight_decay=0", LAST)
    assert distance(trained("clip_norm=1e-14", "weight_decay=0", LAST), untrained) < 1e-6
    assert distance(trained("weight_decay=0", LAST), untrained) > 1e-3


def test_batch_size_is_utterances_an_update(trained: Train) -> None:
    assert len(history(trained())) == 4  # 2 epochs of 32 utterances in batches of 16
    assert len(history(trained("batch_size=12"))) == 6


def test_accumulation_divides_a_batch_without_changing_its_gradient(trained: Train) -> None:
    """Dropout masks depend on the utterance, not on the micro-batch that it is in."""
    run = trained("accumulation=2", LAST)
    assert fold(run)["batch_parts"] == 2 and distance(run, trained(LAST)) < 1e-4


@pytest.mark.slow
def test_memory_decides_whether_trainings_go_side_by_side(trained: Train) -> None:
    """Without memory for the means they go one by one, each with checkpoints on the way; the numbers are the same."""
    words = ("head=linear", "sweep.lr=1e-3,1e-4", LAST)
    assert distance(trained("memory=0", *words), trained(*words)) < 1e-5
    frames = [trained(word, LAST) for word in ("memory=0", "memory=0.0001", "memory=1")]
    assert distance(frames[0], frames[1]) == distance(frames[0], frames[2]) == 0


def test_max_epochs_is_passes_over_the_training_utterances(trained: Train) -> None:
    assert len(history(trained("max_epochs=3"))) == 6
    assert history(trained("max_epochs=3"))[-1]["epoch"] == 3


def test_max_steps_overrides_max_epochs(trained: Train) -> None:
    assert [record["step"] for record in history(trained("max_steps=3"))] == [1, 2, 3]


def test_eval_every_is_the_steps_between_two_looks(trained: Train) -> None:
    assert [record["step"] for record in history(trained("max_steps=5", "eval_every=2"))] == [2, 4, 5]
    assert [record["step"] for record in history(trained("eval_every=null"))] == [2, 4]  # none: every epoch


def test_patience_stops_a_training_that_does_not_improve(trained: Train) -> None:
    assert len(history(trained("lr=1e-12"))) == 4
    assert len(history(trained("lr=1e-12", "patience=2"))) == 3  # the first look is the best


def test_not_finite_stops_or_leaves_the_update_out(small_corpus: Path, store: Path, tmp_path: Path) -> None:
    """A rate of 1e30 overflows the weights; no update after that is finite, and what is left cannot be scored."""
    words = ("train", small_corpus, f"store={store}", *TINY, "lr=1e30", "schedule=constant", "warmup=0", "eval_every=4")
    noted = {}
    for choice, sentence in (("stop", "Update 1 is not finite"), ("skip", "The model diverged")):
        outcome = undertone(*words, "--out", tmp_path / choice, f"not_finite={choice}")
        assert outcome.fails_with(sentence), outcome
        noted[choice] = next((tmp_path / choice).rglob("not_finite.jsonl")).read_text().count("\n")
    assert noted == {"stop": 1, "skip": 3}


def test_deterministic_takes_only_algorithms_that_repeat(trained: Train) -> None:
    """On a CPU with so many threads all of them do; a later run without it may use any again."""
    run = trained("deterministic=true", LAST)
    assert torch.are_deterministic_algorithms_enabled()
    assert distance(run, trained(LAST, "eval_every=99")) == 0
    assert not torch.are_deterministic_algorithms_enabled()


def test_average_top_averages_the_weights_of_the_best_looks(trained: Train) -> None:
    assert distance(trained("average_top=3"), trained()) > 1e-5
    still = ("lr=1e-12", "weight_decay=0")
    assert distance(trained("average_top=3", *still), trained(*still)) < 1e-6


def test_mixed_precision_computes_in_another_precision(trained: Train) -> None:
    assert 0 < distance(trained("mixed_precision=bf16", LAST), trained(LAST)) < 0.01


def test_select_by_is_the_dev_score_that_selects(trained: Train) -> None:
    for metric, run in {"macro_f1": trained("select_by=macro_f1"), "uar": trained("select_by=uar")}.items():
        assert fold(run)["dev_score"] == max(record["dev"]["emotion"][metric] for record in history(run))
    assert fold(trained("select_by=macro_f1"))["dev_score"] != fold(trained())["dev_score"]


def test_device_cuda_is_a_sentence_where_there_is_none(small_corpus: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here; test_device_cuda_trains_on_the_gpu runs instead (-m gpu)")
    outcome = undertone("train", small_corpus, "--out", tmp_path / "run", *TINY, "device=cuda")
    assert outcome.fails_with("device=cuda, but torch sees no GPU here. Use device=cpu")
    assert not (tmp_path / "run").exists()


@pytest.mark.gpu
def test_device_cuda_trains_on_the_gpu(trained: Train) -> None:
    torch.cuda.reset_peak_memory_stats()
    run = trained("device=cuda", "head.dropout=0", LAST)
    assert torch.cuda.max_memory_allocated() > 0
    assert distance(run, trained("head.dropout=0", LAST)) < 1e-3


def test_log_with_tensorboard_writes_what_it_can_show(trained: Train) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert not list(trained().rglob("*tfevents*"))
    run = trained("log_with=tensorboard")
    (events,) = run.rglob("*tfevents*")
    accumulator = EventAccumulator(str(events))
    accumulator.Reload()
    shown = [event.value for event in accumulator.Scalars("dev/emotion/uar")]
    assert shown == pytest.approx([record["dev"]["emotion"]["uar"] for record in history(run)])


def test_augment_changes_the_training(trained: Train) -> None:
    assert distance(trained("augment.gain=6", LAST), trained(LAST)) > 1e-5
    assert distance(trained("augment.gain=0", LAST), trained(LAST)) == 0


@pytest.mark.slow
def test_postprocess_is_chosen_on_dev_for_values_over_time(trained: Train, small_corpus: Path, tmp_path: Path) -> None:
    rows = rows_of(small_corpus)
    for number, row in enumerate(rows):
        series = [f"{k / 25:.2f},{float(row['arousal']) * min(1, k / 12)}" for k in range(100)]
        (tmp_path / f"{number}.csv").write_text("\n".join(["time,arousal", *series]))
        row |= {"series": f"{tmp_path}/{number}.csv", "file": f"{small_corpus.parent / row['file']}"}
    table = write_table(tmp_path / "traced.csv", rows)
    words = ("tasks=series.arousal", "head=frames", "protocol=speaker")
    plain, chosen = (trained(*words, *more, corpus=table) for more in ((), ("postprocess=centring,scaling",)))
    assert "postprocess" not in fold(plain) and list(fold(chosen)["postprocess"]) == ["arousal"]
    clean = [robustness(run, ["gain"])["conditions"][0]["metrics"]["ccc"] for run in (plain, chosen)]
    assert clean == pytest.approx([results(run)["pooled"]["arousal"]["ccc"] for run in (plain, chosen)], abs=1e-3)
    assert abs(clean[0] - clean[1]) > 0.01  # or the test shows nothing
