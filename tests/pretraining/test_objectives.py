"""The losses and their gradients against transformers' own wav2vec 2.0 and torchaudio's HuBERT."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torchaudio.models.wav2vec2.components import LogitGenerator
from transformers import Wav2Vec2ForPreTraining

from undertone.pretraining.masks import negatives, pad, span_mask
from undertone.pretraining.objectives import REGRESSED, Contrastive, MaskedUnits, Objective, Targets, Workers, masked
from undertone.tests.upstream.hf.tiny_encoders import save_tiny
from undertone.training.seeding import seed_everything
from undertone.upstream import load_upstream
from undertone.upstream.hf.random_weights import save_random
from undertone.upstream.types import WaveBatch

LENGTHS = (16_000, 9_000)
WITH_MASKS = ("tiny-wav2vec2", "tiny-hubert", "tiny-wavlm", "tiny-conformer", "tiny-w2v-bert", "tiny-data2vec")
WITHOUT = ("tiny-lasr", "parakeet_encoder")  # the objective learns what stands at masked frames


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("upstreams")

    def make(name: str):
        save = save_random if name.startswith("tiny-") else save_tiny
        return load_upstream(str(save(name, folder / name)))

    return make


def batch_of(upstream, distractors: int = 0, equal: bool = False) -> tuple[WaveBatch, Targets]:
    generator = torch.Generator().manual_seed(0)
    lengths = [LENGTHS[0]] * 2 if equal else LENGTHS
    batch = WaveBatch.collate([0.1 * torch.randn(length, generator=generator) for length in lengths], 16_000)
    frames = upstream.frame_lengths(batch.lengths).tolist()
    size = int(upstream.frame_lengths(torch.tensor([LENGTHS[0]])))
    masks = [span_mask(count, 0.5, 5, row) for row, count in enumerate(frames)]
    units = [torch.randint(7, (count,), generator=generator) for count in frames]
    others = [negatives(mask, distractors, row) for row, mask in enumerate(masks)]
    return batch, Targets(pad(masks, size), pad(units, size), pad(others, size))


def test_contrastive_loss_and_gradients_are_transformers_own(made) -> None:
    ours = Contrastive(made("tiny-wav2vec2")).eval()
    theirs = Wav2Vec2ForPreTraining(ours.config).eval()
    theirs.wav2vec2.load_state_dict(ours.upstream.model.state_dict())
    theirs.quantizer.load_state_dict(ours.quantizer.state_dict())
    theirs.project_hid.load_state_dict(ours.projection.state_dict())
    theirs.project_q.load_state_dict(ours.quantised_projection.state_dict())
    batch, targets = batch_of(ours.upstream, distractors=10, equal=True)  # transformers pads otherwise than it masks
    samples = torch.stack([(row - row.mean()) / (row.var(correction=0) + 1e-7).sqrt() for row in batch.samples])
    offsets = torch.arange(2)[:, None, None] * targets.mask.shape[1]
    losses = ours(batch, targets)
    losses.total.backward()
    config = theirs.config
    config.apply_spec_augment, config.mask_feature_prob = True, 0.0
    reference = theirs(
        samples, mask_time_indices=targets.mask, sampled_negative_indices=targets.negatives + offsets
    ).loss
    reference.backward()
    torch.testing.assert_close(losses.total, reference, rtol=1e-5, atol=1e-4)
    pairs = dict(theirs.wav2vec2.named_parameters())
    pairs |= {f"q.{name}": value for name, value in theirs.quantizer.named_parameters()}
    own = dict(ours.upstream.model.named_parameters())
    own |= {f"q.{name}": value for name, value in ours.quantizer.named_parameters()}
    compared = 0
    for name, weight in pairs.items():
        if weight.grad is not None:
            torch.testing.assert_close(own[name].grad, weight.grad, rtol=1e-3, atol=1e-4)
            compared += 1
    assert compared > 20 and pairs["masked_spec_embed"].grad.abs().sum() > 0
    torch.testing.assert_close(ours.projection.weight.grad, theirs.project_hid.weight.grad, rtol=1e-3, atol=1e-4)


def test_masked_units_are_torchaudios_hubert(made) -> None:
    ours = MaskedUnits(made("tiny-hubert"), 7, size=16).eval()
    theirs = LogitGenerator(ours.upstream.hidden_size, 7, 16, skip_masked=False, skip_nomask=True)
    theirs.final_proj.load_state_dict(ours.projection.state_dict())
    theirs.label_embeddings.data.copy_(ours.vectors)
    batch, targets = batch_of(ours.upstream)
    losses = ours(batch, targets)
    with masked(ours, targets.mask):
        hidden = ours.upstream(batch).states[:, -1]
    logits, _ = theirs(hidden, targets.units, targets.mask, ~targets.mask)  # the wanted unit's first
    wanted = torch.zeros(len(logits), dtype=torch.int64)
    reference = torch.nn.functional.cross_entropy(logits, wanted, reduction="sum")
    torch.testing.assert_close(losses.total, reference)
    assert int(losses.correct) == int((logits.argmax(1) == 0).sum())
    gradients = torch.autograd.grad(losses.total, [ours.vectors, ours.projection.weight], retain_graph=True)
    expected = torch.autograd.grad(reference, [theirs.label_embeddings, theirs.final_proj.weight])
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", WITH_MASKS + WITHOUT)
def test_hidden_frames_are_hidden_and_the_loss_is_the_sum_of_each_utterance_alone(made, name: str) -> None:
    seed_everything(0)
    ours: Objective = MaskedUnits(made(name), 7, size=16).eval()
    batch, targets = batch_of(ours.upstream)
    together = ours(batch, targets)
    alone = []
    for row, length in enumerate(LENGTHS):
        size = int(ours.upstream.frame_lengths(torch.tensor([length])))
        part = Targets(*(value[row : row + 1, :size] for value in (targets.mask, targets.units, targets.negatives)))
        alone.append(ours(WaveBatch.collate([batch.samples[row, :length]], 16_000), part).total)
    torch.testing.assert_close(together.total, sum(alone), rtol=1e-4, atol=1e-3)
    plain = ours.upstream(batch).states
    with masked(ours, targets.mask):
        hidden = ours.upstream(batch).states
    assert not torch.allclose(plain[0, -1], hidden[0, -1], atol=1e-4)
    assert torch.equal(ours.upstream(batch).states, plain), "nothing stays behind"
    together.total.backward()
    vector = ours.upstream.model.masked_spec_embed if ours.mask_vector is None else ours.mask_vector
    assert vector.grad.abs().sum() > 0


def test_workers_regress_at_every_real_frame(made) -> None:
    seed_everything(0)
    ours = Workers(made("tiny-lasr"), 7, num_regressed=3, size=16).eval()
    batch, targets = batch_of(ours.upstream)
    wanted = torch.randn(*targets.mask.shape, 3)
    found = ours(batch, replace(targets, surroundings=wanted))
    with masked(ours, targets.mask):
        hidden = ours.upstream(batch).states[:, -1]
    frames = ours.upstream.frame_lengths(batch.lengths).tolist()
    errors = [
        (ours.regression(row[:n]) - other[:n]).abs() for row, other, n in zip(hidden, wanted, frames, strict=True)
    ]
    units = MaskedUnits.losses(ours, hidden, torch.tensor(frames), targets)
    expected = units.total + REGRESSED * torch.cat(errors).mean() * targets.mask.sum()
    torch.testing.assert_close(found.total, expected)
    assert frames[1] < hidden.shape[1] and found.correct == units.correct


def test_upstreams_that_cannot_be(made) -> None:
    with pytest.raises(ValueError, match="frames cannot be masked in it. Models in which they can: wav2vec2, hubert"):
        MaskedUnits(made("tiny-whisper"), 7)
    with pytest.raises(ValueError, match="cannot be pretrained"):
        MaskedUnits(load_upstream("fbank"), 7)
    with pytest.raises(ValueError, match="is a hubert model. Use --objective units"):
        Contrastive(made("tiny-hubert"))
