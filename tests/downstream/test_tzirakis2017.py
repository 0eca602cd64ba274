"""The audio-visual network: the sizes of the paper, its convolutions by hand, an LSTM that sees no later frame."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from undertone.downstream.head import build_head
from undertone.downstream.heads.tzirakis2017 import Tzirakis2017Head, WaveformBranch
from undertone.downstream.pooling import SelfAttentionPooling
from undertone.downstream.task import Task
from undertone.recipes.systems import load_system
from undertone.upstream.types import Frames

EMOTION = Task("emotion", "classification", ("angry", "happy", "sad"))
AROUSAL = Task("arousal", "regression", ("arousal",), level="frame")
SIZES = {"waveform": 640, "video": 2048}


def make(*streams: str, **options: object) -> Tzirakis2017Head:
    torch.manual_seed(0)
    given = load_system("tzirakis2017")["head_options"] | options
    head = build_head("tzirakis2017", {name: SIZES[name] for name in streams}, (EMOTION, AROUSAL), given).eval()
    assert isinstance(head, Tzirakis2017Head)
    return head


def frames(*streams: str, lengths: tuple[int, ...] = (6, 4)) -> dict[str, Frames]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: Frames(torch.randn(len(lengths), max(lengths), SIZES[name], generator=generator), torch.tensor(lengths))
        for name in streams
    }


@torch.no_grad()
@pytest.mark.parametrize(
    ("streams", "width"), [(("waveform",), 1280), (("video",), 2048), (("waveform", "video"), 3328)]
)
def test_the_widths_of_the_paper(streams: tuple[str, ...], width: int) -> None:
    head, given = make(*streams), frames(*streams)
    assert head.joined(given).features.shape == (2, 6, width)
    assert (head.rnn.input_size, head.rnn.hidden_size, head.rnn.num_layers, head.rnn.bidirectional) == (
        width, 256, 2, False
    )  # fmt: skip
    output = head(given)
    assert output.logits["arousal"].shape == (2, 6, 1) and output.logits["emotion"].shape == (2, 3)
    assert output.embedding.shape == (2, 256) and output.attention is None


@torch.no_grad()
def test_the_convolutions_by_hand() -> None:
    """Each frame by itself: dot products with zeros around it, maxima over two samples and over groups of channels."""
    torch.manual_seed(0)
    branch = WaveformBranch(4, 2, 3, 4, 0.5).eval()
    samples = torch.randn(2, 3, 8)
    found = branch(samples)
    for row in samples.flatten(0, 1).unbind():
        first = _by_hand(branch.short, row[None], before=1)
        pooled = first.view(4, 4, 2).max(2).values
        second = _by_hand(branch.long, pooled, before=1)
        expected = torch.stack([second[:2].max(0).values, second[2:].max(0).values]).flatten()
        index = (samples == row).all(2).nonzero()[0]
        torch.testing.assert_close(found[index[0], index[1]], expected)


def _by_hand(conv: nn.Conv1d, signal: torch.Tensor, before: int) -> torch.Tensor:
    taps, length = conv.kernel_size[0], signal.shape[1]
    padded = torch.cat([torch.zeros(len(signal), before), signal, torch.zeros(len(signal), taps)], 1)
    columns = torch.stack([padded[:, start : start + taps].flatten() for start in range(length)])
    assert conv.bias is not None
    return (columns @ conv.weight.flatten(1).T + conv.bias).T.clamp(min=0)


@torch.no_grad()
def test_there_is_no_attention_unless_it_is_asked_for() -> None:
    plain, asked = make("waveform", "video"), make("waveform", "video", fusion="attention")
    kinds = (nn.MultiheadAttention, SelfAttentionPooling, nn.Softmax)
    assert not any(isinstance(part, kinds) or "attention" in type(part).__name__.lower() for part in plain.modules())
    assert not any("score" in name for name, _ in plain.named_parameters())
    assert any("score" in name for name, _ in asked.named_parameters())
    assert asked.joined(frames("waveform", "video")).features.shape == (2, 6, 2048)


@torch.no_grad()
def test_a_frame_depends_on_none_that_follows() -> None:
    head, given = make("waveform"), frames("waveform", lengths=(6,))
    shorter = {"waveform": Frames(given["waveform"].features[:, :3], torch.tensor([3]))}
    torch.testing.assert_close(head(given).logits["arousal"][:, :3], head(shorter).logits["arousal"])


def test_what_cannot_be_is_refused() -> None:
    for sizes, options, said in (
        ({"mfcc": 39, "video": 8}, {}, "takes streams called waveform and video, got 'mfcc'. Name each upstream"),
        ({"waveform": 640}, {"filters": 6}, "filters that num_maps divides .* 6 filters, num_maps=4"),
        ({"waveform": 641}, {}, "got 641 samples"),
        (SIZES, {"fusion": "late"}, "a fusion of concat or attention are needed, .* 'late'"),
    ):
        with pytest.raises(ValueError, match=said):
            build_head("tzirakis2017", sizes, (EMOTION,), options)
    head, given = make("waveform", "video"), frames("waveform") | frames("video", lengths=(3, 2))
    with pytest.raises(ValueError, match="its streams need the same frames, one every 40 ms"):
        head(given)
