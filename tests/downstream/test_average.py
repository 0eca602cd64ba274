"""The head `average`: what its parts predict, averaged."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from undertone.downstream.head import build_head
from undertone.downstream.task import Task
from undertone.upstream.types import Frames

EMOTION = Task("emotion", "classification", ("angry", "happy", "sad"))
AROUSAL = Task("arousal", "regression", ("arousal",))
SIZES = {"ssl": 6, "mfcc": 4}
HEADS = {"ssl": {"head": "attention", "hidden_size": 8, "weight": 3}, "mfcc": "linear"}


def frames() -> dict[str, Frames]:
    generator, lengths = torch.Generator().manual_seed(0), torch.tensor([9, 5])
    return {name: Frames(torch.randn(2, 9, size, generator=generator), lengths) for name, size in SIZES.items()}


def test_log_probabilities_and_values_are_averaged_by_weight() -> None:
    """In probabilities: the weighted geometric mean, normalised."""
    head = build_head("average", SIZES, (EMOTION, AROUSAL), {"heads": HEADS}).eval()
    given = frames()
    found = head(given)
    alone = {name: part({name: given[name]}) for name, part in head.heads.items()}
    first, second = (alone[name].logits["emotion"].softmax(-1) for name in SIZES)
    product = first**0.75 * second**0.25
    expected = product / product.sum(-1, keepdim=True)
    torch.testing.assert_close(found.logits["emotion"].softmax(-1), expected)
    values = 0.75 * alone["ssl"].logits["arousal"] + 0.25 * alone["mfcc"].logits["arousal"]
    torch.testing.assert_close(found.logits["arousal"], values)
    assert torch.equal(found.embedding, torch.cat([alone[name].embedding for name in SIZES], -1))


@pytest.mark.parametrize(
    ("heads", "said"),
    [
        ({"video": "linear"}, "heads has 'video', and the streams are ssl, mfcc. Name these"),
        ("linear", "heads must be {stream: head}, such as {ssl: attention}, got 'linear'"),
        ({"ssl": 3}, "the head of 'ssl' is a name or options, such as logistic or {head: logistic, C: 1e-3}, got 3"),
        ({"ssl": {"weight": 0}}, "the weight of 'ssl' must be a number > 0, got 0"),
        ({"ssl": {"weight": "half"}}, "the weight of 'ssl' must be a number > 0, got 'half'"),
        ({"ssl": "./mine.py"}, "'./mine.py' is code from outside undertone, which it does not take. Name one of"),
        ({"ssl": "zou2022"}, "'zou2022' takes several streams, and 'ssl' is one. Give another head"),
        ({"ssl": "average"}, "'average' takes several streams, and 'ssl' is one. Give another head"),
        ({"ssl": {"head": "svm", "C": [1]}}, "C of 'ssl' must be a number or two values or more, got [1]"),
        ({"ssl": "linaer"}, "Did you mean 'linear'"),
        ({"ssl": {"head": "linear", "width": 3}}, "Head 'linear' has no option 'width'"),
    ],
)
def test_heads_that_cannot_be(heads: Any, said: str) -> None:
    with pytest.raises(ValueError) as raised:
        build_head("average", SIZES, (EMOTION,), {"heads": heads})
    assert said in str(raised.value)
