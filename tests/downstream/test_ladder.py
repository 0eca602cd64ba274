"""The ladder against its equations written a second way, and every property that makes it a ladder."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from sklearn.datasets import make_moons
from torch import Tensor

from undertone.common.discovery import available
from undertone.downstream.fitted_head import FittedHead
from undertone.downstream.head import Head, HeadOutput, head_class
from undertone.downstream.ladder import GaussianDenoiser, LadderDownstream, MlpDenoiser
from undertone.downstream.ladder_options import LadderOptions
from undertone.downstream.losses import task_loss
from undertone.downstream.network import Downstream
from undertone.downstream.task import Task
from undertone.upstream.types import Frames, HiddenStates, one_stream

EMOTION = Task("emotion", "classification", ("angry", "happy", "sad"))
VALUES = tuple(Task(name, "regression", (name,)) for name in ("arousal", "valence", "dominance"))
HEADS = [
    name
    for name in available("undertone.downstream.heads", Head)
    if not issubclass(head_class(name), FittedHead) and not head_class(name).takes_streams
]
SIZE = 6


def make(head: str = "dense", tasks: Sequence[Task] = (EMOTION,), layers: int = 1, size: int = SIZE, **ladder: object):
    """A ladder on a head; `ladder` None: the plain downstream. The same first weights either way."""
    torch.manual_seed(0)
    small = {"hidden_size": 8} if head.startswith("dense") else {}
    return LadderDownstream(one_stream(layers, size), tuple(tasks), head, small, ladder=LadderOptions(**ladder))


def make_plain(head: str = "dense", tasks: Sequence[Task] = (EMOTION,), layers: int = 1) -> Downstream:
    torch.manual_seed(0)
    return Downstream(
        one_stream(layers, SIZE), tuple(tasks), head, {"hidden_size": 8} if head.startswith("dense") else {}
    )


def states(*lengths: int, seed: int = 1, layers: int = 1) -> HiddenStates:
    generator = torch.Generator().manual_seed(seed)
    return HiddenStates.collate([2 * torch.randn(layers, n, SIZE, generator=generator) + 1 for n in lengths])


def vectors(rows: int, seed: int = 1) -> HiddenStates:
    return states(*[1] * rows, seed=seed)


def reconstruction(output: HeadOutput) -> Tensor:
    return torch.stack([total / count for name, (total, count) in output.losses.items() if "recon" in name]).sum()


def supervised(output: HeadOutput, task: Task, truth: Tensor) -> Tensor:
    total, count = task_loss(task, output.logits[task.name], truth)
    return total / count


def norm(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of (N, m): normalised by the batch, mean, deviation."""
    mean, deviation = values.mean(0), (values.var(0, correction=0) + 1e-5).sqrt()
    return (values - mean) / deviation, mean, deviation


def test_costs_are_those_of_the_equations() -> None:
    """Rasmus et al., algorithm 1, on (N, m) matrices: the same weights and the same noise."""
    model = make("dense", noise=0.3, lambdas="2,1,0.5").train()
    model.head.layers.dropout.p = 0.0
    for weight in model.ladder.parameters():  # the denoisers start at 0
        torch.nn.init.normal_(weight, std=0.5, generator=torch.Generator().manual_seed(7))
    batch = vectors(20)
    torch.manual_seed(5)
    losses = model(batch).losses

    torch.manual_seed(5)
    generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
    first, second = model.head.layers.layers
    x = batch.states[:, 0, 0]
    z0 = (x - x.mean(0)) / x.std(0, correction=0)
    clean, noisy, mean, deviation = [z0], [z0 + 0.3 * torch.randn(20, 1, 6, generator=generator)[:, 0]], [0.0], [1.0]
    h, h_noisy = clean[0], noisy[0]
    for layer in (first, second):
        z, mu, sd = norm(h @ layer.linear.weight.T)
        z_noisy = norm(h_noisy @ layer.linear.weight.T)[0] + 0.3 * torch.randn(20, 1, 8, generator=generator)[:, 0]
        h, h_noisy = (layer.gamma * (z + layer.beta)).relu(), (layer.gamma * (z_noisy + layer.beta)).relu()
        clean.append(z), noisy.append(z_noisy), mean.append(mu), deviation.append(sd)

    signal, found = h_noisy, {}
    for level, weight in ((2, 0.5), (1, 1.0), (0, 2.0)):
        u, a = norm(signal)[0], model.ladder.denoisers[str(level)].coefficients
        mu_u = a[0] * torch.sigmoid(a[1] * u + a[2]) + a[3] * u + a[4]
        v_u = a[5] * torch.sigmoid(a[6] * u + a[7]) + a[8] * u + a[9]
        estimate = (noisy[level] - mu_u) * v_u + mu_u
        cost = ((clean[level] - (estimate - mean[level]) / deviation[level]) ** 2).mean()
        found[f"reconstruction_{level}"] = weight * cost
        signal = estimate @ model.ladder.down[str(level - 1)].weight.T if level else None
    assert losses.keys() == found.keys()
    for name, cost in found.items():
        torch.testing.assert_close(losses[name][0] / losses[name][1], cost, rtol=1e-4, atol=1e-5)
        assert losses[name][1] == 20


def test_denoisers_start_as_they_should() -> None:
    noisy, above = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(GaussianDenoiser(4)(noisy, above), torch.zeros(5, 4))
    mlp = MlpDenoiser(4)
    (w1, b1), (w2, b2) = ((layer.weight, layer.bias) for layer in (mlp.layers[0], mlp.layers[2]))
    hidden = w1 @ torch.tensor([above[1, 2], noisy[1, 2], above[1, 2] * noisy[1, 2]]) + b1
    expected = w2 @ torch.where(hidden > 0, hidden, 0.1 * hidden) + b2
    torch.testing.assert_close(mlp(noisy, above)[1, 2], expected[0])


@pytest.mark.parametrize("head", HEADS)
def test_without_noise_and_weights_it_is_the_plain_head(head: str) -> None:
    """The same losses and weights over five updates, dropout and batch norms included."""
    batch, truth = states(9, 4, 7, 5, layers=2), torch.tensor([0, 1, 2, -1])
    found = []
    for model in (make(head, layers=2, noise=0, lambdas=0), make_plain(head, layers=2)):
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        for step in range(5):
            torch.manual_seed(step)
            loss = supervised(model.train()(batch), EMOTION, truth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        found.append(model.state_dict())
    assert found[0].keys() == found[1].keys()
    for name, value in found[1].items():
        torch.testing.assert_close(found[0][name], value, rtol=0, atol=1e-6, msg=name)


@pytest.mark.parametrize("head", HEADS)
def test_every_head_is_reconstructed(head: str) -> None:
    """Frames, pooled vectors and any other head as it is: costs of every layer, a gradient for every weight."""
    model = make(head, layers=2, denoiser="mlp").train()
    output = model(states(9, 4, 7, layers=2), states(6, 8, layers=2, seed=2))
    assert [name for name in output.losses if "recon" in name] == [
        f"reconstruction_{level}" for level in range(3 if head.startswith("dense") else 2)
    ]
    frames = 9 + 4 + 7 + 6 + 8
    counted = {name: int(count) for name, (_, count) in output.losses.items()}
    assert counted["reconstruction_0"] == (5 if head == "dense" else frames)
    reconstruction(output).backward()
    assert all(weight.grad is not None for weight in model.ladder.parameters())
    assert model.layer_sum.logits.grad is not None


def test_testing_is_the_plain_head_on_the_clean_path() -> None:
    model, plain = make(), make_plain()
    for _ in range(3):
        model.train()(vectors(30), vectors(20, seed=3))
    plain.layer_sum, plain.head = model.layer_sum, model.head
    batch = vectors(5, seed=4)
    first, again = model.eval()(batch), model(batch)
    assert torch.equal(first.logits["emotion"], again.logits["emotion"]) and not first.losses
    assert torch.equal(first.logits["emotion"], plain.eval()(batch).logits["emotion"])


def test_statistics_for_testing_are_those_of_the_clean_labelled_pass() -> None:
    model = make(noise=5.0).train()
    model.head.layers.dropout.p = 0.0
    labelled, unlabelled = vectors(30), HiddenStates(vectors(20).states * 9 + 40, torch.ones(20, dtype=torch.int64))
    model(labelled, unlabelled)
    x = labelled.states[:, 0, 0]
    torch.testing.assert_close(model.head.layers.norm.running_mean, 0.1 * x.mean(0))
    torch.testing.assert_close(model.head.layers.norm.running_var, 0.9 + 0.1 * x.var(0))
    first = model.head.layers.layers[0]
    a = ((x - x.mean(0)) / x.std(0, correction=0)) @ first.linear.weight.T
    torch.testing.assert_close(first.norm.running_mean, 0.1 * a.mean(0), atol=1e-5, rtol=0)
    torch.testing.assert_close(first.norm.running_var, 0.9 + 0.1 * a.var(0), atol=1e-5, rtol=0)


def test_both_passes_drop_the_same() -> None:
    model = make(noise=0.0).train()
    model.head.layers.dropout.p = 0.5
    seen: list[Tensor] = []
    model.head.layers.layers[0].register_forward_hook(lambda layer, inputs, hidden: seen.append(hidden))
    model(vectors(20))
    assert len(seen) == 2 and torch.equal(*seen)
    model(vectors(20))
    assert not torch.equal(seen[0], seen[2])


def test_unlabelled_rows_teach_the_layers_and_nothing_else() -> None:
    """The labelled rows' logits are the same with and without them; gradients reach the layers, not the outputs."""
    model = make(denoiser="mlp").train()
    found = []
    for unlabelled in (None, vectors(20, seed=3), vectors(20, seed=4)):
        model.zero_grad()
        torch.manual_seed(1)
        output = model(vectors(30), unlabelled)
        reconstruction(output).backward()
        outputs = model.head.outputs.layer("emotion").weight.grad
        assert outputs is None or not outputs.any()
        found.append((output.logits["emotion"], model.head.layers.layers[0].linear.weight.grad.clone()))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[1][0], found[2][0])
    assert not torch.allclose(found[0][1], found[1][1]) and not torch.allclose(found[1][1], found[2][1])


def test_halves_are_normalised_apart() -> None:
    """A cost of both halves is the sum of each alone, however unlike they are."""
    model = make(noise=0.0, denoiser="mlp").train()
    model.head.layers.dropout.p = 0.0
    far = HiddenStates(vectors(20, seed=3).states * 7 - 30, torch.ones(20, dtype=torch.int64))
    both, first, second = model(vectors(30), far).losses, model(vectors(30)).losses, model(far).losses
    for name, (total, count) in both.items():
        torch.testing.assert_close(total, first[name][0] + second[name][0], rtol=1e-4, atol=1e-4)
        assert count == 50


@pytest.mark.parametrize("head", ["dense_frames", "attention", "frames"])
def test_padding_costs_nothing(head: str) -> None:
    model = make(head, noise=0.0, denoiser="mlp").train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout | torch.nn.Dropout1d):
            module.p = 0.0
    tight = states(9, 4)
    padded = torch.nn.functional.pad(tight.states, (0, 0, 0, 11), value=50.0)
    for name, (total, count) in model(tight).losses.items():
        loose = model(HiddenStates(padded, tight.lengths)).losses[name]
        torch.testing.assert_close(loose[0], total, rtol=1e-4, atol=1e-4)
        assert loose[1] == count


@pytest.mark.parametrize("head", ["attention", "dense_frames"])
def test_what_stands_in_the_padding_costs_nothing_with_noise(head: str) -> None:
    model, found = make(head, noise=0.5).train(), []
    tight = states(9, 4)
    for value in (0.0, 50.0):
        padded = torch.nn.functional.pad(tight.states, (0, 0, 0, 11), value=value)
        torch.manual_seed(7)
        found.append(model(HiddenStates(padded, tight.lengths)).losses)
    for name, (total, count) in found[0].items():
        torch.testing.assert_close(found[1][name][0], total, rtol=1e-5, atol=1e-5)
        assert found[1][name][1] == count


def test_only_what_has_a_weight_is_decoded() -> None:
    gamma = make(lambdas="0,0,1")
    assert list(gamma.ladder.denoisers) == ["2"] and not gamma.ladder.down
    assert list(gamma.train()(vectors(9)).losses) == ["reconstruction_2"]
    assert make(lambdas="1,0.5").ladder.weights == (1.0, 0.5, 0.5)


@pytest.mark.parametrize("tasks", [(EMOTION,), VALUES], ids=["classes", "values"])
def test_reconstruction_falls_while_a_task_is_learned(tasks: tuple[Task, ...]) -> None:
    """Features of rank 2, so that there is something to denoise with."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(64, 2, generator=generator)
    x = hidden @ torch.randn(2, SIZE, generator=generator)
    batch = HiddenStates(x[:, None, None], torch.ones(64, dtype=torch.int64))
    truth = (hidden[:, 0] > 0).long() if tasks[0].has_classes else hidden[:, 0]
    model, history = make(tasks=tasks), []
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(80):
        output = model.train()(batch)
        parts = torch.stack([reconstruction(output), sum(supervised(output, task, truth) for task in tasks)])
        optimizer.zero_grad()
        parts.sum().backward()
        optimizer.step()
        history.append(parts.detach())
    assert (history[-1] < 0.6 * history[0]).all()


def reconstruct_a_projection(**ladder: object) -> tuple[Tensor, Tensor]:
    """200 steps of reconstruction alone with a trainable projection below layer 0: that before and after, (N, 16)."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 16, generator=generator)
    model = make("linear", size=16, lambdas="1,0", **ladder).train()
    torch.manual_seed(0)
    projection = torch.nn.Linear(16, 16)
    torch.nn.init.orthogonal_(projection.weight)
    optimizer = torch.optim.Adam([*model.parameters(), *projection.parameters()], 0.03)
    before = projection(x).detach()
    for _ in range(200):
        optimizer.zero_grad()
        reconstruction(model(HiddenStates(projection(x)[:, None, None], torch.ones(256, dtype=torch.int64)))).backward()
        optimizer.step()
    return before, projection(x).detach()


def effective_rank(values: Tensor) -> float:
    """exp of the entropy of the shares of variance along the principal axes, of normalised values (N, m)."""
    shares = torch.linalg.svdvals((values - values.mean(0)) / values.std(0)).square()
    shares = shares / shares.sum()
    return float((-(shares * shares.log()).sum()).exp())


def test_defaults_do_not_collapse_what_they_reconstruct() -> None:
    before, after = reconstruct_a_projection()
    assert effective_rank(after) > 0.5 * effective_rank(before)
    before, after = reconstruct_a_projection(detach=False)  # the paper's way, which this test must tell apart
    assert effective_rank(after) < 0.5 * effective_rank(before)


@pytest.mark.parametrize("head", ["linear", pytest.param("dense", marks=pytest.mark.slow), "dense_frames"])
def test_clean_layers_keep_the_deviation_one(head: str) -> None:
    """Of every unit of every layer, after 200 steps of reconstruction alone of features of other scales, of rank 3."""
    generator = torch.Generator().manual_seed(0)
    x = (
        torch.randn(64, 3, generator=generator)
        @ torch.randn(3, SIZE, generator=generator)
        * 10 ** torch.arange(-3.0, 3)
    )
    batch = HiddenStates(x[:, None, None], torch.ones(64, dtype=torch.int64))
    model = make(head).train()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(200):
        optimizer.zero_grad()
        reconstruction(model(batch)).backward()
        optimizer.step()
    levels, _, _ = model.ladder._encode(model.head, Frames(model.layer_sum(batch).features, batch.lengths), None)
    assert len(levels) == {"linear": 2}.get(head, 3)
    for level in levels:
        alive = level.deviation.expand(level.z.shape[-1]) > 1e-3  # a unit that says the same of all has no deviation
        assert alive.float().mean() > 0.5 and ((level.z[:, 0].std(0, correction=0)[alive] - 1).abs() < 0.1).all()


def test_after_an_autoencoder_only_the_outputs_learn() -> None:
    model = make().train()
    model(vectors(30))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.keep_layers()
    optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], 0.1)
    output = model.train()(vectors(30))
    assert not output.losses
    supervised(output, EMOTION, torch.arange(30) % 3).backward()
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"head.outputs.layers.task_emotion.weight", "head.outputs.layers.task_emotion.bias"}


def test_wrong_options_are_sentences() -> None:
    for options, message in (
        ({"lamdas": 1}, "Extra inputs are not permitted"),
        ({"lambdas": "1,-2"}, "should be greater than or equal to 0"),
        ({"lambdas": []}, "give one number or more, such as 1,0.1,0.1"),
        ({"lambdas": "1,1,1,1"}, "ladder.lambdas has 4 weights, but this head has 3 layers"),
        ({"noise": -1}, "should be greater than or equal to 0"),
        ({"noise": True}, "should be a valid number"),
        ({"denoiser": "mpl"}, "should be 'gaussian' or 'mlp'"),
        ({"detach": 1}, "should be a valid boolean"),
    ):
        with pytest.raises(ValueError, match=message):
            make(**options)


def moons(seed: int, ladder: bool) -> float:
    """Accuracy on the other points of two moons of which 5 of 200 points have a label."""
    x, y = make_moons(200, noise=0.08, random_state=seed)
    truth, generator = torch.from_numpy(y), torch.Generator().manual_seed(seed)
    few = [
        torch.nonzero(truth == label)[:, 0][torch.randperm(100, generator=generator)[:n]]
        for label, n in ((0, 3), (1, 2))
    ]
    known = torch.full((200,), -1)
    known[torch.cat(few)] = truth[torch.cat(few)]
    torch.manual_seed(seed)
    task, options = Task("emotion", "classification", ("a", "b")), {"hidden_size": 32, "dropout": 0.0}
    model = (
        LadderDownstream(one_stream(1, 2), (task,), "dense", options)
        if ladder
        else Downstream(one_stream(1, 2), (task,), "dense", options)
    )
    batch = HiddenStates(torch.from_numpy(x).float()[:, None, None], torch.ones(200, dtype=torch.int64))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(500):
        output = model.train()(batch)
        loss = supervised(output, task, known) + (reconstruction(output) if ladder else 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    right = model.eval()(batch).logits["emotion"].argmax(1) == truth
    return float(right[known < 0].float().mean())


@pytest.mark.slow
def test_two_moons_where_five_labels_do_not_suffice() -> None:
    assert [seed for seed in range(5) if moons(seed, ladder=True) > moons(seed, ladder=False)] == [0, 1, 2, 3, 4]
