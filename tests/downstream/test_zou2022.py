"""Co-attention by hand, segments, AlexNet beside its usual form, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from undertone.downstream.head import build_head
from undertone.downstream.heads.zou2022 import Zou2022Head
from undertone.downstream.task import Task
from undertone.upstream.types import Frames

EMOTION, AROUSAL = Task("emotion", "classification", ("a", "b", "c")), Task("arousal", "regression", ("arousal",))
SIZES = {"ssl": 6, "mfcc": 5, "spectrogram": 70}
SEGMENTS = {"ssl": 35, "mfcc": 70, "spectrogram": 70}
SMALL: dict[str, Any] = {"channels": [2, 3, 4, 4, 3], "hidden_size": 3, "size": 4}


def head(**options: Any) -> Zou2022Head:
    torch.manual_seed(0)
    sizes = options.pop("sizes", SIZES)
    found = build_head("zou2022", sizes, (EMOTION, AROUSAL), SMALL | options).eval()
    assert isinstance(found, Zou2022Head)
    return found


def streams(*seconds: float, seed: int = 1) -> dict[str, Frames]:
    """Clips of this many segments, padded with what must not count."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, size in SIZES.items():
        rows = [torch.randn(round(some * SEGMENTS[name]), size, generator=generator) for some in seconds]
        padded = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=9.0)
        found[name] = Frames(padded, torch.tensor([len(row) for row in rows]))
    return found


def part(frames: dict[str, Frames], row: int, first: int, last: int) -> dict[str, Frames]:
    """Segments `first` to `last` of one clip."""
    found = {}
    for name, one in frames.items():
        real = one.features[row, : int(one.lengths[row])]
        cut = real[first * SEGMENTS[name] : last * SEGMENTS[name]]
        found[name] = Frames(cut[None], torch.tensor([len(cut)]))
    return found


def vectors(model: Zou2022Head, frames: dict[str, Frames]) -> list[torch.Tensor]:
    assert model.spectrogram is not None and model.mfcc is not None
    return [model.spectrogram(frames["spectrogram"]), model.mfcc(frames["mfcc"])]


def test_the_paper_s_co_attention_by_hand() -> None:
    """w = ReLU(W [s; m] + b) has a weight for each of the frames of a segment, and no sum of 1; v = w H."""
    model, frames = head(segments=SEGMENTS), streams(1.0)
    s, m = vectors(model, frames)
    w = F.relu(torch.cat([s, m], -1) @ model.ssl.query.weight.T + model.ssl.query.bias)  # (1, 35)
    v = F.relu(model.ssl.out(w @ frames["ssl"].features[0]))
    logits = model.outputs(model.embed(torch.cat([s, m, v], -1)))
    output = model(frames)
    torch.testing.assert_close(output.logits["emotion"], logits["emotion"].log_softmax(-1))
    torch.testing.assert_close(output.logits["arousal"], logits["arousal"])
    assert output.attention is None and abs(float(w.detach().sum()) - 1) > 1e-3


@pytest.mark.parametrize("weights", ["relu", "softmax"])
def test_a_clip_is_the_mean_of_its_segments_log_probabilities(weights: str) -> None:
    """Of 2.4 segments the last is padded with zeros; a longer clip in the batch changes nothing."""
    model, frames = head(segments=SEGMENTS, weights=weights), streams(2.4, 4.0, 0.3)
    output = model(frames)
    each = [model(part(frames, 0, place, place + 1)) for place in range(3)]
    for task, logits in output.logits.items():
        torch.testing.assert_close(logits[0], torch.stack([one.logits[task][0] for one in each]).mean(0))
    torch.testing.assert_close(output.embedding[0], torch.stack([one.embedding[0] for one in each]).mean(0))
    short = model(part(frames, 2, 0, 1))
    torch.testing.assert_close(output.logits["emotion"][2], short.logits["emotion"][0])


def test_whole_clips_ask_with_a_query_and_padding_has_no_weight() -> None:
    model, frames = head(weights="softmax"), streams(1.0, 2.3)
    attention = model(frames).attention
    torch.testing.assert_close(attention.sum(1), torch.ones(2))
    assert not attention[0, 35:].any() and attention[1].all()
    clip = part(frames, 1, 0, 3)
    s, m = vectors(model, clip)
    query = torch.cat([s, m], -1) @ model.ssl.query.weight.T + model.ssl.query.bias  # (1, 4)
    keys = clip["ssl"].features[0] @ model.ssl.key.weight.T  # (T, 4)
    torch.testing.assert_close(attention[1], (query @ keys.T / 2).softmax(-1)[0])
    relu = head()
    query = torch.cat(vectors(relu, clip), -1) @ relu.ssl.query.weight.T + relu.ssl.query.bias
    scores = F.relu(query @ (clip["ssl"].features[0] @ relu.ssl.key.weight.T).T / 2)  # (1, T)
    v = F.relu(relu.ssl.out(scores @ clip["ssl"].features[0] / clip["ssl"].features.shape[1]))
    expected = relu.outputs(relu.embed(torch.cat([*vectors(relu, clip), v], -1)))
    torch.testing.assert_close(relu(frames).logits["emotion"][1], expected["emotion"][0])


def test_of_a_segment_the_picture_goes_through_alexnet() -> None:
    """The layers of torchvision's AlexNet, with other numbers of maps."""
    model = head(segments=SEGMENTS, resize=140)
    first, second, third, fourth, fifth = model.spectrogram.convolutions
    assert [(one.kernel_size[0], one.stride[0], one.padding[0]) for one in model.spectrogram.convolutions] == [
        (11, 4, 2), (5, 1, 2), (3, 1, 1), (3, 1, 1), (3, 1, 1)
    ]  # fmt: skip
    usual = nn.Sequential(
        first, nn.ReLU(), nn.MaxPool2d(3, 2), second, nn.ReLU(), nn.MaxPool2d(3, 2), third, nn.ReLU(), fourth,
        nn.ReLU(), fifth, nn.ReLU(), nn.MaxPool2d(3, 2), nn.AdaptiveAvgPool2d((6, 6)), nn.Flatten(),
    )  # fmt: skip
    picture = streams(1.0)["spectrogram"]
    resized = F.interpolate(picture.features[:, None], (140, 140), mode="bilinear")
    torch.testing.assert_close(model.spectrogram(picture), F.relu(model.spectrogram.out(usual(resized))))


@pytest.mark.parametrize("segments", [None, SEGMENTS])
def test_without_co_attention_it_is_the_mean_of_the_frames(segments: Any) -> None:
    model, clip = head(fusion="concat", segments=segments), part(streams(1.0), 0, 0, 1)
    v = F.relu(model.ssl.out(clip["ssl"].features.mean(1)))
    expected = model.outputs(model.embed(torch.cat([*vectors(model, clip), v], -1)))["emotion"]
    torch.testing.assert_close(model(clip).logits["emotion"].softmax(-1), expected.softmax(-1))


@pytest.mark.parametrize("names", [("mfcc",), ("spectrogram",), ("ssl",), ("mfcc", "spectrogram"), ("ssl", "mfcc")])
@pytest.mark.parametrize("segments", [None, SEGMENTS])
def test_a_stream_that_is_not_given_is_not_there(names: tuple[str, ...], segments: Any) -> None:
    fusion = "co-attention" if names == ("ssl", "mfcc") else "concat"
    model = head(sizes={name: SIZES[name] for name in names}, fusion=fusion, segments=segments)
    frames = {name: one for name, one in streams(1.2, 0.4).items() if name in names}
    assert model(frames).logits["emotion"].shape == (2, 3)
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {*names, "embed", "outputs"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sizes": {"speech": 6}}, "takes streams called spectrogram, mfcc, ssl, got 'speech'. Name each upstream"),
        (
            {"sizes": {"ssl": 6}},
            "co-attention is of mfcc or spectrogram to the frames of ssl, got ssl. Use head.fus",
        ),
        ({"weights": "tanh"}, "weights one of relu, softmax"),
        ({"segments": {"ssl": 10}}, "head.segments needs the frames of mfcc too"),
        ({"resize": 64}, "resize is for segments"),
        ({"segments": SEGMENTS | {"spectrogram": 20}}, "AlexNet needs 63 frames and bands of a segment, got 20 and 70"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        head(**options)
