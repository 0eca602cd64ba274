import pytest

from undertone.training.config import RunConfig
from undertone.training.trainer import rate_factor


def factors(schedule, warmup=0.2, total=10):
    config = RunConfig(corpus="emodb", schedule=schedule, warmup=warmup)
    return [rate_factor(config, step, total) for step in range(total)]


def test_linear_worked_by_hand():
    assert factors("linear") == pytest.approx([0.5, 1, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])


def test_constant_and_cosine():
    assert factors("constant") == pytest.approx([0.5] + [1] * 9)
    cosine = factors("cosine")
    assert cosine[2] == 1 and cosine[6] == pytest.approx(0.5)
    assert cosine[2:] == sorted(cosine[2:], reverse=True)


def test_no_warmup_starts_at_the_peak():
    assert factors("linear", warmup=0.0)[0] == 1.0
