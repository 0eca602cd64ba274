"""CRNN-MA: its attentions, its mean over true lengths, any length, and the six rows of its ablation."""

from __future__ import annotations

import pytest
import torch

from undertone.downstream.head import build_head
from undertone.downstream.heads.jiang2022 import Jiang2022Head, _FrameAttention, _LstmBranch
from undertone.downstream.task import Task
from undertone.recipes.systems import load_system, system_module
from undertone.training.settings import make_config
from undertone.upstream import WaveBatch, load_upstream
from undertone.upstream.types import Frames

EMOTION = Task("emotion", "classification", ("angry", "happy", "sad"))
SMALL = {"channels": [4, 5, 6, 6, 5], "attention_size": 7, "hidden_size": 3}


def make(**options: object) -> Jiang2022Head:
    torch.manual_seed(0)
    head = build_head("jiang2022", {"speech": 29}, (EMOTION,), SMALL | options).eval()
    assert isinstance(head, Jiang2022Head)
    return head


def padded(*lengths: int) -> tuple[list[torch.Tensor], Frames]:
    generator = torch.Generator().manual_seed(3)
    clips = [torch.randn(length, 29, generator=generator) for length in lengths]
    batch = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True, padding_value=50.0)
    return clips, Frames(batch, torch.tensor(lengths))


@pytest.mark.parametrize("row", system_module("jiang2022").ABLATION, ids=lambda row: row.name)
@pytest.mark.parametrize("resize", [0, 40])
def test_every_row_takes_any_length_and_padding_changes_nothing(row, resize: int) -> None:
    words = [*row.words, f"head.resize={resize}", "head.spectral_size=24"]
    words += [f"head.{key}={value}" for key, value in SMALL.items()]
    config = make_config({"corpus": "emodb"}, words, preset=load_system("jiang2022"))
    head = make(**config.head_options)
    assert (head.cnn is None, head.lstm is None) == ("lstm" in row.name, "cnn" in row.name)
    assert (head.fusion is not None) == (row.name == "both-attention-fusion")
    clips, frames = padded(200, 1, 60)
    together = head({"speech": frames}).logits["emotion"]
    for number, clip in enumerate(clips):
        alone = head({"speech": Frames(clip[None], torch.tensor([len(clip)]))}).logits["emotion"][0]
        torch.testing.assert_close(together[number], alone, atol=1e-5, rtol=0)


def test_frame_attention_sums_to_one_over_the_real_frames() -> None:
    torch.manual_seed(0)
    part, maps = _FrameAttention(4, bands=3, size=7, attention=True), torch.randn(2, 4, 6, 3)
    vector, attention = part(maps, torch.tensor([6, 2]))
    torch.testing.assert_close(attention.sum(1), torch.ones(2))
    assert not attention[1, 2:].any()
    one = part.one_map(maps)[1, 0, :2]  # (2, 3)
    scores = part.score[2](torch.sigmoid(part.score[0](one)))[:, 0]
    values = torch.relu(part.values(maps))[1, :, :2].max(dim=2).values  # (7, 2)
    torch.testing.assert_close(vector[1], values @ scores.softmax(0))


def test_multidimensional_attention_sums_to_one_over_each_axis_and_the_mean_is_over_the_true_length() -> None:
    torch.manual_seed(0)
    branch, (clips, frames) = _LstmBranch(29, 3, attention=True).eval(), padded(5, 2)
    seen: list[Frames] = []
    branch.rnn.register_forward_hook(lambda part, given, out: seen.extend([given[0], out]))
    vector, attention, lengths = branch(frames)
    assert lengths.tolist() == [5, 2]
    torch.testing.assert_close(attention.sum(1), torch.ones(2))
    assert not attention[1, 2:].any()
    clip = clips[1]
    times, shares = branch.over_time(clip).softmax(0), branch.over_features(clip).softmax(1)
    torch.testing.assert_close(times.sum(0), torch.ones(29))
    torch.testing.assert_close(shares.sum(1), torch.ones(2))
    torch.testing.assert_close(seen[0].features[1, :2], clip + times * clip + shares * clip)
    mean = seen[1].features[1, :2].mean(0)
    torch.testing.assert_close(vector[1], torch.relu(mean / (1 + 1e-5) ** 0.5))


def test_the_features_of_two_and_of_twelve_seconds() -> None:
    upstream = load_upstream("jiang2022")
    waves = [0.1 * torch.randn(seconds * 16_000) for seconds in (2, 12)]
    states = upstream(WaveBatch.collate(waves, 16_000))
    assert upstream.hidden_size == 192 + 95 == states.states.shape[-1]
    assert (
        states.states.abs().max() < 20
        and torch.isfinite(upstream(WaveBatch.collate([torch.zeros(9)], 16_000)).states).all()
    )
    options = load_system("jiang2022:small")["head_options"]
    for resize in (0, options["resize"]):
        head = build_head("jiang2022", {"speech": 287}, (EMOTION,), options | {"resize": resize}).eval()
        assert head({"speech": Frames(states.states[:, 0], states.lengths)}).logits["emotion"].isfinite().all()


def test_chroma_flatness_and_zero_crossings_of_a_tone() -> None:
    time = torch.arange(16_000) / 16_000
    features = load_upstream("jiang2022")(
        WaveBatch.collate([torch.sin(2 * torch.pi * 1760 * time), torch.randn(16_000)], 16_000)
    ).states[:, 0, 10]
    flatness, chroma, crossings, loudness = features[:, 272], features[:, 273:285], features[:, 285], features[:, 286]
    assert chroma[0].argmax() == 0  # 1760 Hz is an A
    assert flatness[0] < 0.01 and 0.4 < flatness[1] < 0.7  # exp(-Euler's constant) = 0.56 for white noise
    assert crossings[0] == pytest.approx(2 * 1760 / 16_000, abs=0.01)
    assert loudness[0] == pytest.approx(10 / 2**0.5, abs=0.05)


def test_options_that_cannot_be() -> None:
    for options, problem in (
        ({"branches": "gru"}, "branches must be one of both, cnn, lstm"),
        ({"fusion": "sum"}, "fusion one of attention, concat, got 'both' and 'sum'"),
        ({"num_maps": 2}, "that num_maps divides are needed"),
        ({"spectral_size": 30}, "spectral_size up to 29"),
        ({"channels": [4]}, "five channels"),
    ):
        with pytest.raises(ValueError, match=problem):
            make(**options)
