"""The CRNN head and its parts against torch's own layers on the unpadded clips."""

from __future__ import annotations

import pytest
import torch

from undertone.downstream.head import build_head
from undertone.downstream.heads.crnn import ConvolutionalPooling
from undertone.downstream.norms import MaskedMapNorm
from undertone.downstream.recurrent import BiLstm, LastStatePooling
from undertone.downstream.spectral_cnn import SpectralCnn
from undertone.downstream.task import Task
from undertone.upstream.types import Frames

EMOTION = Task("emotion", "classification", ("angry", "happy", "sad"))
GENDER = Task("gender", "classification", ("female", "male"))
AROUSAL = Task("arousal", "regression", ("arousal",), level="frame")


def padded(lengths: tuple[int, ...], size: int, padding: float = 50.0) -> tuple[list[torch.Tensor], Frames]:
    generator = torch.Generator().manual_seed(3)
    clips = [torch.randn(length, size, generator=generator) for length in lengths]
    batch = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True, padding_value=padding)
    return clips, Frames(batch, torch.tensor(lengths))


@pytest.mark.parametrize("training", [True, False])
def test_map_norm_is_batch_norm_of_the_real_frames(training: bool) -> None:
    torch.manual_seed(0)
    ours, reference = MaskedMapNorm(3).train(training), torch.nn.BatchNorm2d(3).train(training)
    for norm in (ours, reference):
        norm.running_mean, norm.running_var = torch.tensor([0.3, -1.0, 2.0]), torch.tensor([2.0, 0.5, 1.0])
        norm.weight.data, norm.bias.data = torch.tensor([1.5, -2.0, 1.0]), torch.tensor([0.1, 0.2, 0.0])
    maps, mask = torch.randn(2, 3, 5, 4) + 1, torch.tensor([[True] * 5, [True, True, False, False, False]])
    real = maps.transpose(1, 2)[mask][None].transpose(1, 2)  # (1, 3, 7, 4)
    found = ours(maps, mask).transpose(1, 2)
    torch.testing.assert_close(found[mask], reference(real).transpose(1, 2)[0])
    assert torch.equal(found[~mask], torch.zeros(3, 3, 4))
    for key, value in reference.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], value)


def test_the_gradient_of_map_norm_is_that_of_batch_norm_of_the_real_frames() -> None:
    torch.manual_seed(0)
    ours, reference = MaskedMapNorm(3), torch.nn.BatchNorm2d(3)
    for norm in (ours, reference):
        norm.weight.data, norm.bias.data = torch.tensor([1.5, -2.0, 1.0]), torch.tensor([0.1, 0.2, 0.0])
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    maps, weights = (torch.randn(2, 3, 5, 4) + 1).requires_grad_(), torch.randn(2, 3, 5, 4)
    real, shown = (part.transpose(1, 2)[mask][None].transpose(1, 2) for part in (maps, weights))  # (1, 3, 7, 4)
    found = torch.autograd.grad((ours(maps, mask) * weights).sum(), (maps, ours.weight, ours.bias))
    expected = torch.autograd.grad((reference(real) * shown).sum(), (maps, reference.weight, reference.bias))
    for own, torchs in zip(found, expected, strict=True):
        torch.testing.assert_close(own, torchs, atol=1e-5, rtol=1e-5)


def test_bilstm_is_torchs_on_packed_sequences() -> None:
    torch.manual_seed(0)
    reference = torch.nn.LSTM(5, 4, num_layers=2, bidirectional=True, batch_first=True)
    ours = BiLstm(5, 4, num_layers=2)
    for layer in range(2):
        for lstm, suffix in ((ours.forwards[layer], ""), (ours.backwards[layer], "_reverse")):
            state = {name: getattr(reference, name.replace("l0", f"l{layer}") + suffix) for name in lstm.state_dict()}
            lstm.load_state_dict(state)
    _, frames = padded((7, 1, 4), 5)
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        frames.features, frames.lengths, batch_first=True, enforce_sorted=False
    )
    out, (last, _) = reference(packed)
    expected, _ = torch.nn.utils.rnn.pad_packed_sequence(out, batch_first=True)
    found = ours(frames)
    torch.testing.assert_close(found.features[found.mask], expected[found.mask])
    ends = LastStatePooling(8)(found).vector
    torch.testing.assert_close(ends, torch.cat([last[-2], last[-1]], dim=-1))


def test_cnn_keeps_the_last_frames_and_the_shortest_clip() -> None:
    cnn = SpectralCnn(6, [4, 5], [[2, 2], [3, 1]], num_maps=2)
    clips, frames = padded((1, 7, 12), 6)
    found = cnn.eval()(frames)
    assert found.lengths.tolist() == [1, 2, 2] and found.features.shape == (3, 2, 5 * 2)
    for row, clip in enumerate(clips):
        alone = cnn(Frames(clip[None], torch.tensor([len(clip)]))).features[0]
        torch.testing.assert_close(found.features[row, : len(alone)], alone, atol=1e-5, rtol=0)


def test_convolutional_attention_with_a_kernel_of_one_is_pointwise_attention_exactly() -> None:
    torch.manual_seed(0)
    pooling = ConvolutionalPooling(5, kernel_size=1)
    clips, frames = padded((6, 2), 5)
    found = pooling(frames)
    weight, bias = pooling.score.weight[0, :, 0], pooling.score.bias
    for row, clip in enumerate(clips):
        attention = (clip @ weight + bias).softmax(0)
        torch.testing.assert_close(found.attention[row, : len(clip)], attention, atol=1e-7, rtol=0)
        torch.testing.assert_close(found.vector[row], attention @ clip, atol=1e-6, rtol=0)
    wide = ConvolutionalPooling(5, kernel_size=3)
    with torch.no_grad():
        wide.score.weight.zero_()
        wide.score.weight[:, :, 1] = pooling.score.weight[:, :, 0]
        wide.score.bias.copy_(pooling.score.bias)
        torch.testing.assert_close(wide(frames).attention, found.attention, atol=1e-7, rtol=0)
        wide.score.weight[:, :, 0] = 1.0  # now a frame's score sees the frame before it
        assert not torch.allclose(wide(frames).attention, found.attention, atol=1e-3)


@pytest.mark.parametrize("pooling", ["attention", "convolutional", "mean", "last"])
def test_batch_mates_do_not_matter(pooling: str) -> None:
    torch.manual_seed(0)
    head = build_head("crnn", {"speech": 6}, (EMOTION, GENDER), {"pooling": pooling, "hidden_size": 8}).eval()
    _, frames = padded((20, 31, 9), 6)
    order = torch.tensor([0, 2, 1])
    permuted = head({"speech": Frames(frames.features[order], frames.lengths[order])})
    longer = torch.nn.functional.pad(frames.features, (0, 0, 0, 40), value=-7.0)
    for other in (permuted, head({"speech": Frames(longer, frames.lengths)})):
        first = head({"speech": frames}).logits["emotion"][0]
        torch.testing.assert_close(other.logits["emotion"][0], first, atol=1e-5, rtol=0)


def test_outputs_frame_by_frame() -> None:
    torch.manual_seed(0)
    head = build_head("crnn", {"speech": 6}, (AROUSAL,), {"hidden_size": 8}).eval()
    clips, frames = padded((1, 30, 7), 6)
    together = head({"speech": frames})
    assert together.lengths.tolist() == [1, 8, 2] and together.logits["arousal"].shape == (3, 8, 1)
    for row, clip in enumerate(clips):
        alone = head({"speech": Frames(clip[None], torch.tensor([len(clip)]))}).logits["arousal"][0]
        torch.testing.assert_close(together.logits["arousal"][row, : len(alone)], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"kernel_size": 2}, "kernel_size must be odd and >= 1, got 2"),
        ({"attention_kernel": 0}, "attention_kernel must be odd and >= 1, got 0"),
        ({"channels": [4], "strides": []}, r"Each convolution of \[4\] needs \[frames, bands\] in strides, got \[\]"),
        ({"num_maps": 4}, "num_maps must divide the 6 features of a frame, got 4"),
        ({"pooling": "laast"}, "Unknown pooling 'laast'"),
    ],
)
def test_options_that_cannot_be(options: dict, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        build_head("crnn", {"speech": 6}, (EMOTION,), options)
