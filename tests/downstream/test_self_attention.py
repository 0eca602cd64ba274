"""Self-attention between frames against torch's own transformer layer, with the position bias as its attention mask."""

from __future__ import annotations

import pytest
import torch

from undertone.downstream.head import build_head
from undertone.downstream.self_attention import SelfAttention
from undertone.downstream.task import Task
from undertone.upstream.types import Frames

EMOTION = Task("emotion", "classification", ("angry", "happy", "sad"))
LENGTHS = torch.tensor([9, 4])


def made(**options: int) -> SelfAttention:
    torch.manual_seed(0)
    module = SelfAttention(8, num_layers=2, num_heads=2, **options)
    for layer in module.layers:
        torch.nn.init.normal_(layer.distance)
    return module.eval()


def torchs(module: SelfAttention, clip: torch.Tensor) -> torch.Tensor:
    """(T, D) -> (T, D) by nn.TransformerEncoderLayer; distance k - q has the place k - q + max_distance."""
    bound, size = module.max_distance, len(clip)
    hidden = clip[None]
    for layer in module.layers:
        reference = torch.nn.TransformerEncoderLayer(8, 2, 16, 0.0, "gelu", batch_first=True, norm_first=True).eval()
        own = layer.state_dict()
        names = {
            "self_attn.in_proj_weight": "inputs.weight", "self_attn.in_proj_bias": "inputs.bias",
            "self_attn.out_proj.weight": "output.weight", "self_attn.out_proj.bias": "output.bias",
            "linear1.weight": "feed_forward.0.weight", "linear1.bias": "feed_forward.0.bias",
            "linear2.weight": "feed_forward.2.weight", "linear2.bias": "feed_forward.2.bias",
            "norm1.weight": "attention_norm.weight", "norm1.bias": "attention_norm.bias",
            "norm2.weight": "forward_norm.weight", "norm2.bias": "forward_norm.bias",
        }  # fmt: skip
        reference.load_state_dict({theirs: own[ours] for theirs, ours in names.items()})
        bias = torch.tensor(
            [
                [
                    [own["distance"][head, max(-bound, min(bound, k - q)) + bound] for k in range(size)]
                    for q in range(size)
                ]
                for head in range(2)
            ]
        )
        hidden = reference(hidden, src_mask=bias)
    return torch.nn.functional.layer_norm(hidden, (8,))[0]


@pytest.mark.parametrize("max_distance", [3, 64])
def test_each_utterance_is_what_torchs_layers_give_of_it_alone(max_distance: int) -> None:
    module = made(max_distance=max_distance)
    features = torch.randn(2, 9, 8, generator=torch.Generator().manual_seed(1))
    found = module(Frames(features, LENGTHS)).features
    for row, length in enumerate(LENGTHS):
        torch.testing.assert_close(found[row, :length], torchs(module, features[row, :length]), atol=1e-5, rtol=0)
    assert torch.equal(found[1, 4:], torch.zeros(5, 8))


def test_frames_know_how_far_away_others_are_and_not_where_they_stand() -> None:
    module = made(max_distance=3)
    alike, other = torch.randn(2, 8, generator=torch.Generator().manual_seed(1))
    alike = alike.expand(1, 9, 8)
    features = alike.clone()
    features[0, 4] = other
    hidden = module(Frames(features, torch.tensor([9]))).features[0]
    assert not torch.allclose(hidden[3], hidden[5], atol=1e-3), "one before is not one after"
    torch.testing.assert_close(*module(Frames(alike, torch.tensor([9]))).features[0, [0, 8]])


@pytest.mark.parametrize(
    ("head", "options", "plain"),
    [
        ("crnn", {"self_attention": 1, "num_heads": 2}, {"channels": [], "num_layers": 0, "pooling": "attention"}),
        ("transformer", {"num_layers": 1}, {"kernel_size": 1, "stride": 1}),
    ],
)
def test_heads_with_it_see_the_order_of_frames_that_pooling_alone_does_not(
    head: str, options: dict, plain: dict
) -> None:
    first, second = torch.randn(2, 6, generator=torch.Generator().manual_seed(1))
    both = torch.stack([torch.stack([first, second]), torch.stack([second, first])])  # (2, 2, 6), in either order
    batch = {"speech": Frames(both, torch.tensor([2, 2]))}

    def difference(name: str, **given: int) -> float:
        torch.manual_seed(0)
        model = build_head(name, {"speech": 6}, (EMOTION,), plain | given).eval()
        for key, value in model.named_parameters():
            if key.endswith("distance"):
                torch.nn.init.normal_(value)
        logits = model(batch).logits["emotion"]
        return float((logits[0] - logits[1]).detach().abs().max())

    assert difference(head, **options) > 1e-3
    assert difference("attention" if head == "transformer" else head) < 1e-6


def test_counts_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="num_heads must divide the 8 features of a frame, got 3"):
        SelfAttention(8, num_heads=3)
    with pytest.raises(ValueError, match="num_layers and max_distance must be >= 1, got 0 and 64"):
        SelfAttention(8, num_layers=0)
