from collections import Counter

import numpy as np
import torch

from undertone.training.seeding import balanced_rounds, balanced_rows, chunks, draw, epoch_batches, seed_everything
from undertone.training.sources import WaveSource

IDS = [f"u{index}" for index in range(103)]
DURATIONS = [1 + (index * 37 % 100) / 10 for index in range(103)]


def test_every_utterance_once_in_batches_of_the_size():
    batches = epoch_batches(IDS, DURATIONS, 8, seed=0, epoch=0, jitter=0.3)
    assert sorted(position for batch in batches for position in batch) == list(range(103))
    assert sorted(map(len, batches)) == [7] + [8] * 12


def test_depends_on_seed_and_epoch_alone():
    first = epoch_batches(IDS, DURATIONS, 8, 0, 0, 0.3)
    torch.rand(5)  # a generator's history does not matter
    assert epoch_batches(IDS, DURATIONS, 8, 0, 0, 0.3) == first
    assert epoch_batches(IDS, DURATIONS, 8, 0, 1, 0.3) != first
    assert epoch_batches(IDS, DURATIONS, 8, 1, 0, 0.3) != first


def test_an_utterance_keeps_its_draw_when_another_is_removed():
    assert draw(0, "order", 3, "u7") == draw(0, "order", 3, "u7") != draw(0, "order", 3, "u8")
    assert draw("a", "bc") != draw("ab", "c")


def test_batches_hold_clips_of_like_length():
    """At the jitter of a live upstream padding is under 5 % on as many clips, as unequal in length, as IEMOCAP's."""
    generator = np.random.default_rng(0)  # median 3.58 s, 95th percentile 11.06 s, 0.58 to 34 s
    durations = np.clip(generator.lognormal(np.log(3.58), np.log(11.06 / 3.58) / 1.645, 5531), 0.58, 34.1).tolist()
    ids = [f"x{i}" for i in range(len(durations))]

    def waste(batches):
        padded = sum(max(durations[i] for i in batch) * len(batch) for batch in batches)
        return 1 - sum(durations) / padded

    plain = chunks(range(len(ids)), 32)
    assert waste(epoch_batches(ids, durations, 32, 0, 0, WaveSource.jitter)) <= 0.05 < 0.4 < waste(plain)


def test_seeding_makes_torch_repeat():
    seed_everything(0, "step", 5)
    first = torch.rand(3)
    seed_everything(0, "step", 5)
    assert torch.equal(torch.rand(3), first)


CORPORA = ["small"] * 13 + ["large"] * 70 + ["middle"] * 20


def test_balanced_epochs_have_as_many_of_each_corpus_and_use_all_in_turn():
    used = Counter()
    for epoch in range(6):
        batches = epoch_batches(IDS, DURATIONS, 8, 0, epoch, 0.3, CORPORA)
        drawn = [position for batch in batches for position in batch]
        assert len(drawn) == 103 and len(batches) == 13
        assert sorted(Counter(CORPORA[position] for position in drawn).values()) == [34, 34, 35]
        used.update(drawn)
    for name in set(CORPORA):
        counts = [used[position] for position, corpus in enumerate(CORPORA) if corpus == name]
        assert max(counts) - min(counts) <= 1 and min(counts) >= 2  # pass after pass, over the epochs
    assert epoch_batches(IDS, DURATIONS, 8, 0, 1, 0.3, CORPORA) == epoch_batches(IDS, DURATIONS, 8, 0, 1, 0.3, CORPORA)


def test_rounds_of_a_balanced_epoch_hardly_repeat_an_utterance():
    rounds = balanced_rounds(IDS, CORPORA, 0, 0)
    assert len(rounds) == 3 and all(len(set(some)) >= len(some) - 4 for some in rounds)  # 35 of 13: 3 passes
    for some in rounds:
        counts = Counter(CORPORA[position] for position in some)
        assert max(counts.values()) - min(counts.values()) <= 1


def test_one_corpus_is_balanced_as_it_is():
    alone = epoch_batches(IDS, DURATIONS, 8, 0, 2, 0.3, ["a"] * 103)
    assert alone == epoch_batches(IDS, DURATIONS, 8, 0, 2, 0.3)


def test_balanced_rows_repeat_the_small_corpora_evenly():
    rows = balanced_rows(CORPORA)
    assert Counter(CORPORA[row] for row in rows) == {"small": 70, "large": 70, "middle": 70}
    assert set(Counter(row for row in rows if CORPORA[row] == "small").values()) == {5, 6}
    assert sorted(rows[70 * 0 : 70]) == rows[:70] and balanced_rows(["a", "a"]) == [0, 1]
