"""Batches of like length, and reading ahead of what is computed."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from undertone.audio.batches import READ_AHEAD, plan_batches, read_ahead


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


def test_the_next_batches_are_read_before_the_first_is_done():
    read = {number: threading.Event() for number in range(READ_AHEAD + 1)}
    batches = read_ahead([[number] for number in read], lambda number: read[number].set() or -number)
    assert next(batches) == ([0], [0])
    assert all(event.wait(10) for event in read.values())
    assert list(batches) == [([number], [-number]) for number in range(1, READ_AHEAD + 1)]


def test_an_error_of_the_reader_comes_out_and_the_number_of_threads_stays():
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError):
        list(read_ahead([[1.0], [0.0]], lambda value: 1 / value))
    assert torch.get_num_threads() == before
