"""Batches of like length, and work on the next ones ahead of what is asked for."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from undertone.audio.batches import READ_AHEAD, ahead, plan_batches


def test_batches_are_of_like_length_within_the_budget():
    seconds = (1.0, 9.0, 2.0, 4.0, 4.5, 30.0)
    batches = plan_batches(seconds, float, 10.0)
    assert batches == [[30.0], [9.0], [4.5, 4.0], [2.0, 1.0]]
    assert all(len(batch) == 1 for batch in plan_batches(seconds, float, 0.0))
    assert plan_batches([], float, 60.0) == []


def test_batches_hold_no_more_than_asked_and_everything_once():
    durations = dict(enumerate(np.random.default_rng(0).uniform(0.05, 20, 200)))
    batches = plan_batches(durations, durations.__getitem__, 60.0)
    assert sorted(index for batch in batches for index in batch) == list(durations)
    padded = [max(durations[index] for index in batch) * len(batch) for batch in batches]
    assert max(padded) <= 60 and sum(padded) <= 1.1 * sum(durations.values()), "little padding"


def test_the_next_batches_are_worked_on_before_the_first_is_asked_for_and_no_others():
    begun = {number: threading.Event() for number in range(20)}
    batches = ahead([[number] for number in begun], lambda batch: begun[batch[0]].set() or -batch[0], workers=2)
    assert next(batches) == ([0], 0)
    assert all(begun[number].wait(10) for number in range(READ_AHEAD + 2))
    assert not any(begun[number].is_set() for number in range(READ_AHEAD + 2, 20))
    assert list(batches) == [([number], -number) for number in range(1, 20)]


def test_an_error_of_the_work_comes_out_and_the_number_of_threads_stays():
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError):
        list(ahead([[1.0], [0.0]], lambda batch: 1 / batch[0]))
    assert torch.get_num_threads() == before
