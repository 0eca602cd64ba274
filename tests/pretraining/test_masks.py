"""Masks and distractors: what they cover, and that only seed, update and utterance decide them."""

from __future__ import annotations

import pytest
import torch

from undertone.pretraining.masks import negatives, span_mask


@pytest.mark.parametrize("length", [2, 3, 9, 10, 25, 400])
def test_some_frames_are_hidden_and_some_are_seen(length: int) -> None:
    for number in range(30):
        mask = span_mask(length, 0.65, 10, 0, number)
        assert mask.shape == (length,) and 0 < int(mask.sum()) < length


def test_spans_have_their_length_and_cover_about_what_chance_gives() -> None:
    fractions = []
    for number in range(200):
        mask = span_mask(400, 0.65, 10, number)
        edges = torch.diff(mask.int(), prepend=torch.zeros(1, dtype=torch.int), append=torch.zeros(1, dtype=torch.int))
        runs = (edges == -1).nonzero()[:, 0] - (edges == 1).nonzero()[:, 0]
        assert int(runs.min()) >= 10
        fractions.append(float(mask.float().mean()))
    # 26 of the 391 first frames, without replacement; a frame is seen if none of the 10 before it was drawn
    expected = 1 - torch.tensor([(391 - 26 - k) / (391 - k) for k in range(10)]).prod()
    assert sum(fractions) / 200 == pytest.approx(float(expected), abs=0.02)


def test_only_the_parts_decide() -> None:
    first = span_mask(100, 0.5, 10, 0, "mask", 7, "a")
    torch.manual_seed(123)
    assert torch.equal(first, span_mask(100, 0.5, 10, 0, "mask", 7, "a"))
    assert not torch.equal(first, span_mask(100, 0.5, 10, 0, "mask", 8, "a"))
    assert not torch.equal(first, span_mask(100, 0.5, 10, 0, "mask", 7, "b"))


def test_distractors_are_other_masked_frames_each_about_as_often() -> None:
    mask = torch.tensor([0, 1, 1, 0, 1, 0, 1], dtype=torch.bool)
    drawn = negatives(mask, 3000, 0, "a")
    for frame in (1, 2, 4, 6):
        values, counts = drawn[frame].unique(return_counts=True)
        assert values.tolist() == [other for other in (1, 2, 4, 6) if other != frame]
        assert (counts / 3000 - 1 / 3).abs().max() < 0.05
    assert torch.equal(drawn[[0, 3, 5]], torch.zeros(3, 3000, dtype=torch.int64))
