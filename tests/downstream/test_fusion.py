"""Streams of other rates and sizes joined for a head of one: by hand, alone as in a batch, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from undertone.downstream.fusion import Fusion, LateFusion, align, check_fusion
from undertone.downstream.network import Downstream
from undertone.downstream.task import Task
from undertone.upstream.types import Frames, HiddenStates, StreamBatch, StreamShape

EMOTION, GENDER = Task("emotion", "classification", ("a", "b", "c")), Task("gender", "classification", ("f", "m"))
AROUSAL = Task("arousal", "regression", ("arousal",), level="frame")
SHAPES = {  # as wav2vec 2.0 and MFCCs: 20 ms from 12.5 ms on, and 10 ms from 12.5 ms on
    "ssl": StreamShape(3, 6, 0.02, 0.0125),
    "mfcc": StreamShape(1, 4, 0.01, 0.0125),
    "whole": StreamShape(1, 5, math.inf),
}
LENGTHS = {"ssl": [49, 20], "mfcc": [98, 40], "whole": [1, 1]}


def hidden(seed: int = 0, **lengths: list[int]) -> StreamBatch:
    """Hidden states of two clips, of the longer one and of one with much padding."""
    generator, found = torch.Generator().manual_seed(seed), {}
    for name, some in (LENGTHS | lengths).items():
        shape = SHAPES[name]
        rows = [torch.randn(shape.num_layers, length, shape.hidden_size, generator=generator) for length in some]
        found[name] = HiddenStates.collate(rows)
    return StreamBatch(found)


def clip(batch: StreamBatch, row: int) -> StreamBatch:
    """One clip alone, without padding."""
    found = {}
    for name, one in batch.streams.items():
        length = one.lengths[row : row + 1]
        found[name] = HiddenStates(one.states[row : row + 1, :, : int(length)], length)
    return StreamBatch(found)


def frames_of(batch: StreamBatch) -> dict[str, Frames]:
    return {name: Frames(one.states.mean(1), one.lengths) for name, one in batch.streams.items()}


def model(fusion: str | None, head: str = "attention", shapes: Any = None, **options: Any) -> Downstream:
    torch.manual_seed(0)
    return Downstream(shapes or SHAPES, (EMOTION, GENDER), head, options, fusion=fusion).eval()


# ---- Aligning.


def test_a_faster_stream_is_averaged_over_the_time_of_each_slower_frame() -> None:
    """Compared with the mean over a grid of 0.05 ms, on which each fast frame stands for its 10 ms."""
    streams = frames_of(hidden())
    aligned, lengths = align(streams, SHAPES)
    assert lengths.tolist() == LENGTHS["ssl"]
    torch.testing.assert_close(aligned["ssl"], streams["ssl"].features, rtol=0, atol=0)
    fast = streams["mfcc"].features[0].numpy()  # (98, 4)
    times = np.arange(0, 1.2, 5e-5) + 2.5e-5
    owner = np.clip(np.round((times - 0.0125) / 0.01), 0, len(fast) - 1).astype(int)
    for number in (0, 1, 17, 48):
        inside = np.abs(times - 0.0125 - 0.02 * number) < 0.01
        np.testing.assert_allclose(aligned["mfcc"][0, number].numpy(), fast[owner[inside]].mean(0), atol=0.02)
    ramp = torch.arange(98, dtype=torch.float32)[None, :, None] * 0.01 + 0.0125  # each frame holds its own time
    own = align({"ssl": streams["ssl"], "mfcc": Frames(ramp, torch.tensor([98]))}, SHAPES)[0]["mfcc"]
    centres = 0.0125 + 0.02 * torch.arange(49)
    torch.testing.assert_close(own[0, 1:-1, 0], centres[1:-1])  # in the mean over its time, which is even around it


def test_what_there_is_one_of_a_clip_stands_at_every_frame() -> None:
    streams = frames_of(hidden())
    aligned, _ = align(streams, SHAPES)
    assert aligned["whole"].shape == (2, 49, 5)
    assert torch.equal(aligned["whole"][:, 3], streams["whole"].features[:, 0])
    only, lengths = align({"whole": streams["whole"]}, SHAPES)
    assert only["whole"].shape == (2, 1, 5) and lengths.tolist() == [1, 1]


def test_equal_rates_are_left_as_they_are() -> None:
    """Streams of one rate, whose frames may begin at other times: the nearest one, and nothing is blurred."""
    streams = frames_of(hidden())
    shapes = {"a": SHAPES["ssl"], "b": StreamShape(1, 4, 0.02, 0.0125), "c": StreamShape(1, 4, 0.02, 0.0325)}
    given = {"a": streams["ssl"], "b": Frames(streams["mfcc"].features[:, :49], streams["ssl"].lengths)}
    given["c"] = given["b"]
    aligned, _ = align(given, shapes)
    real = given["b"].features[0]  # of the clip without padding
    assert torch.equal(aligned["b"][0], real)
    assert torch.equal(aligned["c"][0], torch.cat([real[:1], real[:-1]]))


# ---- Joining.


def test_early_fusion_by_hand() -> None:
    streams = frames_of(hidden())
    aligned, _ = align(streams, SHAPES)
    concat = Fusion("concat", SHAPES)
    assert concat.output_size == 15 and not list(concat.parameters())
    torch.testing.assert_close(concat(streams).features, torch.cat(list(aligned.values()), -1))
    gate = Fusion("gate", SHAPES)
    projected = [gate.project[name](one) for name, one in aligned.items()]  # type: ignore[operator]
    torch.testing.assert_close(gate(streams).features, sum(projected) / 3)  # equal weights at first
    gate.weights.data = torch.tensor([2.0, 0.0, -1e9])
    shares = torch.tensor([2.0, 0.0]).softmax(0)
    torch.testing.assert_close(gate(streams).features, shares[0] * projected[0] + shares[1] * projected[1])
    attention = Fusion("attention", SHAPES)
    parts = torch.stack([attention.project[name](one) for name, one in aligned.items()])  # type: ignore[operator]
    first, _, last = attention.score
    weights = ((parts @ first.weight.T + first.bias).tanh() @ last.weight.T).softmax(0)  # (S, B, T, 1)
    torch.testing.assert_close(attention(streams).features, (weights * parts).sum(0))


def test_late_fusion_is_one_linear_layer_on_the_joined_embeddings() -> None:
    """With `linear` and `ecapa`, whose outputs are linear in the embedding."""
    streams = {name: one for name, one in frames_of(hidden()).items() if name != "whole"}
    for head, options in (("linear", {"hidden_size": 8}), ("ecapa", {"channels": 16, "scale": 4, "embedding_size": 8})):
        torch.manual_seed(0)
        late = LateFusion({"ssl": 6, "mfcc": 4}, (EMOTION,), head=head, options=options).eval()
        output = late(streams)
        assert output.embedding.shape == (2, 16)
        layers = [one.outputs.layer("emotion") for one in late.heads.values()]
        weight, bias = torch.cat([layer.weight for layer in layers], 1), layers[0].bias + layers[1].bias
        torch.testing.assert_close(output.logits["emotion"], F.linear(output.embedding, weight, bias))


@pytest.mark.parametrize("fusion", ["concat", "gate", "attention", "late"])
@pytest.mark.parametrize("head", ["attention", "linear", "crnn"])
def test_a_batch_changes_no_clip(fusion: str, head: str) -> None:
    downstream, batch = model(fusion, head), hidden()
    together = downstream(batch)
    for row in range(2):
        alone = downstream(clip(batch, row))
        for name, logits in alone.logits.items():
            torch.testing.assert_close(together.logits[name][row], logits[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(together.embedding[row], alone.embedding[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("fusion", ["concat", "gate", "attention", "late"])
def test_what_only_both_streams_know_is_learned(fusion: str) -> None:
    """One stream tells a from b, the other male from female; each alone knows half of it."""
    shapes = {"fast": StreamShape(1, 3, 0.01, 0.0125), "slow": StreamShape(1, 4, 0.02, 0.0125)}
    torch.manual_seed(0)
    words = torch.randint(2, (40, 2))
    states = {
        "fast": torch.randn(40, 1, 20, 3) + 2 * (2 * words[:, :1, None, None] - 1),
        "slow": torch.randn(40, 1, 10, 4) + 2 * (2 * words[:, 1:, None, None] - 1),
    }
    task = Task("emotion", "classification", ("af", "am", "bf", "bm"))
    label = words @ torch.tensor([2, 1])

    def accuracy(shown: tuple[str, ...]) -> float:
        torch.manual_seed(1)  # at 0 the attention settles on one stream
        downstream = Downstream(shapes, (task,), "linear", {"hidden_size": 8}, fusion=fusion)
        batch = {
            name: HiddenStates(own if name in shown else torch.zeros_like(own), torch.full((40,), own.shape[2]))
            for name, own in states.items()
        }
        optimizer = torch.optim.Adam(downstream.parameters(), lr=0.01)
        for _ in range(150):
            optimizer.zero_grad()
            logits = downstream(StreamBatch(batch)).logits["emotion"]
            F.cross_entropy(logits, label).backward()
            optimizer.step()
        return float((logits.argmax(1) == label).float().mean())

    assert accuracy(("fast", "slow")) > 0.95
    assert accuracy(("fast",)) < 0.85 and accuracy(("slow",)) < 0.85  # half, and what it learns by heart


@pytest.mark.parametrize("fusion", ["concat", "gate", "attention", "late"])
def test_means_are_all_that_a_head_on_means_needs(fusion: str) -> None:
    """Stored means, one of each stream and clip, give exactly what the frames give."""
    downstream, batch = model(fusion, "linear"), hidden()
    torch.testing.assert_close(downstream(batch.means()).logits, downstream(batch).logits)


def test_one_named_stream_needs_no_fusion() -> None:
    downstream = model(None, shapes={"ssl": SHAPES["ssl"]})
    only = StreamBatch({"ssl": hidden().streams["ssl"]})
    assert downstream(only).logits["emotion"].shape == (2, 3)
    assert [name for name in downstream.state_dict() if "layer_sum" in name] == ["layer_sum.ssl.logits"]


def test_the_weights_of_one_upstream_are_called_what_they_were() -> None:
    downstream = model(None, shapes={"speech": SHAPES["ssl"]})
    assert "layer_sum.logits" in downstream.state_dict()
    states = hidden().streams["ssl"]
    torch.testing.assert_close(downstream(states).logits, downstream(StreamBatch({"speech": states})).logits)


# ---- What is refused.


@pytest.mark.parametrize(
    ("head", "fusion", "streams", "said"),
    [
        (
            "attention",
            None,
            ("a", "b"),
            "Head 'attention' takes one stream, got a, b. Say how they are joined: ",
        ),
        ("attention", "concat", ("a",), "fusion=concat joins several upstreams, got one. Leave it out"),
        ("svm", "late", ("a", "b"), "fitted by a solver, .* got fusion=late. Use fusion=concat"),
    ],
)
def test_what_does_not_go_together(head: str, fusion: str | None, streams: tuple[str, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_fusion(head, fusion, streams)


def test_late_fusion_predicts_no_values_over_time() -> None:
    with pytest.raises(ValueError, match="'arousal' is predicted frame by frame. Use fusion=concat, gate or attention"):
        Downstream(SHAPES, (AROUSAL,), "frames", {}, fusion="late")
