"""The contract of a head, over every head there is, and what is particular to each."""

import pytest
import torch

from undertone.common.discovery import available
from undertone.downstream.head import Head, build_head, head_class
from undertone.downstream.pooling import POOLINGS
from undertone.downstream.task import Task
from undertone.upstream.dropout import UtteranceDropout
from undertone.upstream.types import ALONE, Frames, PackedFrames

TASKS = (
    Task("emotion", "classification", ("angry", "happy", "sad")),
    Task("arousal", "regression", ("arousal",)),
    Task("type", "classification", ("a", "b")),  # nn.ModuleDict has a method of that name
)
HEADS = available("undertone.downstream.heads", Head)
SEVERAL = {
    "zou2022": ("ssl", "mfcc", "spectrogram"),
    "tzirakis2017": ("waveform", "video"),
}  # the streams of heads that take several
CASES = [*HEADS, *(f"attention {pooling}" for pooling in POOLINGS)]


def make(case: str, **options) -> Head:
    """A head by name, `attention` with a pooling after a space."""
    name, *pooling = case.split()
    torch.manual_seed(0)
    names = SEVERAL.get(name, ("speech",))
    head = build_head(name, dict.fromkeys(names, 6), TASKS, options | ({"pooling": pooling[0]} if pooling else {}))
    if name in SEVERAL:  # each of its streams is given what the others get
        head.register_forward_pre_hook(lambda _, given: (dict.fromkeys(names, given[0]["speech"]),))
    return head.eval()


def clips(*lengths: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(length, 6, generator=generator) for length in lengths]


def batch(features: list[torch.Tensor], padding: float = 0.0) -> dict[str, Frames]:
    padded = torch.nn.utils.rnn.pad_sequence(features, batch_first=True, padding_value=padding)
    return {"speech": Frames(padded, torch.tensor([len(clip) for clip in features]))}


@pytest.mark.parametrize("name", CASES)
def test_every_task_gets_logits_of_its_width(name):
    output = make(name)(batch(clips(9, 4)))
    assert {task: tuple(logits.shape) for task, logits in output.logits.items()} == {
        "emotion": (2, 3),
        "arousal": (2, 1),
        "type": (2, 2),
    }
    assert output.embedding.shape[0] == 2 and output.embedding.ndim == 2


@pytest.mark.parametrize("name", CASES)
def test_batch_and_padding_never_change_an_utterance(name):
    head, features = make(name), clips(1, 30, 7, 2)
    together = head(batch(features, padding=50.0))
    for row, clip in enumerate(features):
        alone = head(batch([clip]))
        for task in TASKS:
            torch.testing.assert_close(together.logits[task.name][row], alone.logits[task.name][0], atol=1e-5, rtol=0)
        torch.testing.assert_close(together.embedding[row], alone.embedding[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", CASES)
def test_attention_sums_to_one_over_the_real_frames_alone(name):
    head, features = make(name), clips(9, 4)
    attention, alone = head(batch(features)).attention, head(batch(features[1:])).attention
    if attention is not None:
        torch.testing.assert_close(attention.sum(1), torch.ones(2))
        real = alone.shape[1]
        torch.testing.assert_close(attention[1, :real], alone[0])
        assert torch.equal(attention[1, real:], torch.zeros_like(attention[1, real:]))


@pytest.mark.parametrize("name", CASES)
def test_every_parameter_gets_a_gradient(name):
    head = make(name).train()
    output = head(batch(clips(9, 4)))
    sum(logits.square().sum() for logits in output.logits.values()).backward()
    assert [key for key, value in head.named_parameters() if value.grad is None] == []


@pytest.mark.parametrize("name", [name for name in HEADS if head_class(name).needs == "mean"])
def test_a_head_that_needs_means_gives_the_same_from_the_means(name):
    head, features = make(name).double(), [clip.double() for clip in clips(9, 4)]
    from_frames = head(batch(features))
    from_means = head(batch([clip.mean(0, keepdim=True) for clip in features]))
    for task in TASKS:
        torch.testing.assert_close(from_means.logits[task.name], from_frames.logits[task.name])


@pytest.mark.parametrize("name", CASES)
def test_in_training_padding_changes_nothing_either(name):
    """Batch norms make utterances of a batch depend on each other, but not on how far they are padded."""
    torch.manual_seed(0)
    head, features = make(name).train(), clips(9, 4)
    for module in head.modules():
        if isinstance(module, torch.nn.Dropout | torch.nn.Dropout1d):
            module.p = 0.0
    tight, padded = batch(features), batch([*features, torch.zeros(20, 6)], padding=50.0)
    loose = {"speech": Frames(padded["speech"].features[:2], padded["speech"].lengths[:2])}
    for task, logits in head(tight).logits.items():
        torch.testing.assert_close(head(loose).logits[task], logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["attention", "transformer"])
@pytest.mark.parametrize("training", [True, False])
def test_packed_frames_give_what_padded_ones_give(name: str, training: bool) -> None:
    """In training too, where an utterance's dropout is the same; and the gradients."""
    head, features = make(name).train(training), clips(7, 3, 5)
    found = []
    for packed in (True, False):
        rows = torch.cat(features) if packed else batch(features, padding=9.0)[ALONE].features
        rows = rows.clone().requires_grad_()
        lengths = torch.tensor([len(one) for one in features])
        frames = PackedFrames(rows, lengths) if packed else Frames(rows, lengths)
        torch.manual_seed(1)
        with UtteranceDropout(torch.tensor([4, 5, 6], dtype=torch.int32)):
            output = head({ALONE: frames})
        output.embedding.square().sum().backward()
        gradient = rows.grad if packed else torch.cat([row[:n] for row, n in zip(rows.grad, lengths, strict=True)])
        found.append((output.embedding, output.attention, gradient))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert found[0][2].abs().max() > 1e-4


def test_structured_pooling_hands_its_penalty_to_the_trainer():
    output = make("attention structured", num_heads=2, penalty=0.5)(batch(clips(9, 4)))
    total, count = output.losses["overlap"]
    assert total > 0 and count == 2


def test_poolings_stand_side_by_side():
    head = make("attention", pooling="mean+structured", hidden_size=8, num_heads=3)
    assert head.embed.in_features == 8 + 3 * 8
    assert head(batch(clips(9, 4))).losses.keys() == {"overlap"}


def test_outputs_frame_by_frame_do_not_change_with_padding():
    torch.manual_seed(0)
    task = Task("arousal", "regression", ("arousal",), level="frame")
    head, features = build_head("frames", {"speech": 6}, (task,), {}).eval(), clips(1, 30, 7)
    together = head(batch(features, padding=50.0))
    assert together.lengths.tolist() == [1, 30, 7] and together.logits["arousal"].shape == (3, 30, 1)
    for row, clip in enumerate(features):
        alone = head(batch([clip])).logits["arousal"][0]
        torch.testing.assert_close(together.logits["arousal"][row, : len(clip)], alone, atol=1e-5, rtol=0)


def test_unknown_head_and_option_name_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'attention'"):
        make("atention")
    with pytest.raises(ValueError, match="Head 'attention' has no option 'hiden_size'. Did you mean 'hidden_size'"):
        make("attention", hiden_size=3)
    with pytest.raises(ValueError, match="Head 'jiang2022': attention must be true or false, got 'maybe'"):
        make("jiang2022", attention="maybe")
    with pytest.raises(ValueError, match="kernel_size must be odd"):
        make("attention", kernel_size=4)
    with pytest.raises(ValueError, match="Unknown pooling 'atention'. Did you mean 'attention'.*Join several with"):
        make("attention", pooling="mean+atention")
    with pytest.raises(ValueError, match="joined once, got 'mean\\+mean'"):
        make("attention", pooling="mean+mean")
    with pytest.raises(ValueError, match="num_heads must divide the 128 features that are pooled, got 3"):
        make("attention", pooling="multihead", num_heads=3)
    with pytest.raises(ValueError, match="channels must be a multiple of scale >= 2, got 20 and 8"):
        make("ecapa", channels=20)


def test_a_head_of_the_users_own_file_or_package(tmp_path, monkeypatch):
    file = tmp_path / "my_head.py"
    file.write_text(
        "from undertone.downstream.head import Head, HeadOutput, TaskOutputs\n"
        "from undertone.downstream.pooling import masked_mean\n"
        "class MyHead(Head):\n"
        "    def __init__(self, input_sizes, tasks, *, scale=1.0):\n"
        "        super().__init__(input_sizes, tasks)\n"
        "        self.scale, self.outputs = scale, TaskOutputs(6, tasks)\n"
        "    def forward(self, streams):\n"
        "        pooled = self.scale * masked_mean(self.only_stream(streams))\n"
        "        return HeadOutput(self.outputs(pooled), pooled)\n"
    )
    output = make(str(file), scale=2.0)(batch(clips(3)))
    torch.testing.assert_close(output.embedding[0], 2 * clips(3)[0].mean(0))
    (tmp_path / "pkg_of_heads").mkdir()
    file.rename(tmp_path / "pkg_of_heads" / "heads.py")
    monkeypatch.syspath_prepend(tmp_path)
    packaged = make("pkg_of_heads.heads:MyHead", scale=3.0)(batch(clips(3)))
    torch.testing.assert_close(packaged.embedding[0], 3 * clips(3)[0].mean(0))
