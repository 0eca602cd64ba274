import torch

from undertone.training.order import BUCKET, draw, epoch_batches, seed_everything

IDS = [f"u{index}" for index in range(103)]
DURATIONS = [1 + (index * 37 % 100) / 10 for index in range(103)]


def test_every_utterance_once_in_batches_of_the_size():
    batches = epoch_batches(IDS, DURATIONS, 8, seed=0, epoch=0)
    assert sorted(position for batch in batches for position in batch) == list(range(103))
    assert sorted(map(len, batches)) == [7] + [8] * 12


def test_depends_on_seed_and_epoch_alone():
    first = epoch_batches(IDS, DURATIONS, 8, 0, 0)
    torch.rand(5)  # a generator's history does not matter
    assert epoch_batches(IDS, DURATIONS, 8, 0, 0) == first
    assert epoch_batches(IDS, DURATIONS, 8, 0, 1) != first
    assert epoch_batches(IDS, DURATIONS, 8, 1, 0) != first


def test_an_utterance_keeps_its_draw_when_another_is_removed():
    assert draw(0, "order", 3, "u7") == draw(0, "order", 3, "u7") != draw(0, "order", 3, "u8")
    assert draw("a", "bc") != draw("ab", "c")


def test_batches_hold_clips_of_like_length():
    """Padding of a stretch sorted by length is far below that of a random order."""
    ids, durations = [f"x{i}" for i in range(BUCKET * 32)], [1 + (i * 37 % 101) / 10 for i in range(BUCKET * 32)]

    def waste(batches):
        padded = sum(max(durations[i] for i in batch) * len(batch) for batch in batches)
        return 1 - sum(durations) / padded

    bucketed = epoch_batches(ids, durations, 32, 0, 0)
    plain = [list(range(start, start + 32)) for start in range(0, len(ids), 32)]
    assert waste(bucketed) < 0.15 < waste(plain)


def test_seeding_makes_torch_repeat():
    seed_everything(0, "step", 5)
    first = torch.rand(3)
    seed_everything(0, "step", 5)
    assert torch.equal(torch.rand(3), first)
