"""Every preset: its settings, variants and ablation rows are valid; what is particular to each as the survey has it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from undertone import load_model
from undertone.commands.ablate import row_configs
from undertone.common.discovery import check_options
from undertone.corpora.manifest import Manifest, Utterance
from undertone.downstream.head import head_class
from undertone.downstream.heads.ecapa import EcapaHead
from undertone.downstream.network import Downstream
from undertone.downstream.task import Task
from undertone.experiments.hidden_states import open_upstream
from undertone.experiments.run_folder import RunFolder
from undertone.recipes.systems import available_systems, load_system, system_module
from undertone.tests.cli.commands import undertone
from undertone.training.config import RunConfig
from undertone.training.objective import Objective
from undertone.training.settings import make_config
from undertone.training.sources import WaveSource
from undertone.upstream import HiddenStates, load_upstream
from undertone.upstream.types import one_stream

EMOTION = Task("emotion", "classification", ("angry", "happy", "sad"))
GENDER = Task("gender", "classification", ("female", "male"))
TINY = ("head.channels=[4,4,4,4]", "head.hidden_size=8", "max_epochs=1", "eval_every=100", "device=cpu")


def config_of(system: str, *words: str) -> RunConfig:
    return make_config({"corpus": "emodb"}, words, preset=load_system(system))


def downstream_of(config: RunConfig, tasks: tuple[Task, ...]) -> Downstream:
    torch.manual_seed(0)
    upstream = load_upstream(config.upstream, options=config.upstream_options)
    return Downstream(one_stream(1, upstream.hidden_size), tasks, config.head, config.head_options).eval()


@pytest.mark.parametrize("name", available_systems())
def test_settings_variants_and_ablation_are_valid(name: str) -> None:
    module = system_module(name)
    plain = config_of(name)
    for variant in getattr(module, "VARIANTS", {}):
        config = config_of(f"{name}:{variant}")
        assert config != plain
        check_options("Head", config.head, head_class(config.head), config.head_options)
    assert plain.augment.is_on == (name in ("contours", "undertone"))  # which reproduce no paper
    rows = getattr(module, "ABLATION", ())
    assert len({row.name for row in rows}) == len({(row.words, row.needs, row.streams) for row in rows}) == len(rows)
    for variant in ("", *getattr(module, "VARIANTS", {})):
        for config in row_configs(f"{name}:{variant}" if variant else name, "emodb").values() if rows else ():
            check_options("Head", config.head, head_class(config.head), config.head_options)
    for row in rows:
        assert row.words or row.streams or row_configs(name, "emodb")[row.name] == plain


def test_a_variant_is_the_system_with_its_words() -> None:
    system = load_system("li2019:small")
    narrow = {"channels": [16, 16, 32, 32], "kernel_size": 3, "hidden_size": 64, "num_maps": 3}
    narrow["strides"] = [[2, 4], [2, 2], [1, 2], [1, 2]]
    assert system["head_options"] == {"pooling": "attention", **narrow}
    assert load_system("li2019")["head_options"] == {"channels": [64, 64, 64, 64], "pooling": "attention"}
    with pytest.raises(ValueError, match="'li2019:smal' has no variant 'smal'. Did you mean 'small'"):
        load_system("li2019:smal")


def test_a_variant_of_the_users_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text('SYSTEM = {"upstream": "mfcc"}\nVARIANTS = {"wide": ("head.hidden_size=512",)}\n')
    assert load_system(f"{file}:wide") == {"upstream": "mfcc", "head_options": {"hidden_size": 512}}


@pytest.mark.parametrize("name", ["crnn", "li2019", "huang2017", "trigeorgis2016", "jiang2022"])
def test_small_is_the_same_graph_but_narrower(name: str) -> None:
    paper, small = (downstream_of(config_of(system), (EMOTION, GENDER)) for system in (name, f"{name}:small"))
    assert [type(part) for part in paper.modules()] == [type(part) for part in small.modules()]
    sizes = [sum(weight.numel() for weight in part.parameters()) for part in (paper, small)]
    assert sizes[1] < sizes[0] / 3


NARROW = {
    "trigeorgis2016:small": ("head.filters=2", "head.long_taps=50", "head.hidden_size=8", *TINY[2:]),
    "jiang2022:small": ("head.channels=[4,4,4,4,4]", "head.attention_size=8", *TINY[1:]),
    "undertone": ("device=cpu",),
    "undertone:ssl": ("upstream=tiny", *TINY[2:]),
}


OTHERS = ("crnn:small", "huang2017:small", "transformer:small", *NARROW)


@pytest.mark.parametrize("name", ["li2019:small", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_trains_on_any_corpus_from_the_command_line(name: str, small_corpus: Path, store: Path, tmp_path: Path) -> None:
    out, narrow = tmp_path / "run", NARROW.get(name, TINY)
    outcome = undertone("train", small_corpus, "--system", name, "--out", out, "--store", store, *narrow)
    assert outcome.status == 0, outcome.err
    assert (out / "model" / "model.safetensors").is_file()


# ---- li2019


def test_the_same_command_line_takes_a_pretrained_upstream(
    small_corpus: Path, store: Path, tmp_path: Path, tiny_upstream: Path
) -> None:
    words = ("--system", "li2019:ssl", "--upstream", tiny_upstream, "--out", tmp_path / "run", "--store", store)
    outcome = undertone("train", small_corpus, *words, "head.hidden_size=8", "max_epochs=1", "device=cpu")
    assert outcome.status == 0, outcome.err


def loss_of(words: tuple[str, ...], tasks: tuple[Task, ...]) -> tuple[torch.Tensor, Downstream]:
    config = config_of("li2019:small", *words, "head.channels=[4,4,4,4]", "head.dropout=0")
    model = downstream_of(config, (EMOTION, GENDER))
    utterances = [
        Utterance("a", "a.wav", emotion="angry", gender="male", duration=1.0),
        Utterance("b", "b.wav", emotion="sad", gender=None, duration=1.0),
    ]
    states = torch.randn(2, 1, 30, 963, generator=torch.Generator().manual_seed(1))
    output = model(HiddenStates(states, torch.tensor([30, 20])))
    objective = Objective(config, tasks, utterances, model.embedding_size(), Accelerator(cpu=True))
    loss = objective(objective.measure(utterances, 0.0), output, utterances, utterances)
    loss.backward()
    return loss, model


@pytest.mark.parametrize("pooling", ["attention", "mean"])
def test_the_four_cells_come_from_flags(pooling: str) -> None:
    from dataclasses import replace

    words = (f"head.pooling={pooling}",)
    with_gender, model = loss_of(words, (EMOTION, GENDER))
    assert model.head.outputs.layer("gender").weight.grad.abs().sum() > 0
    without, model = loss_of((*words, "task_weights.gender=0"), (EMOTION, replace(GENDER, weight=0.0)))
    emotion_only, _ = loss_of((*words, "tasks=emotion"), (EMOTION,))
    assert torch.equal(without, emotion_only) and model.head.outputs.layer("gender").weight.grad is None
    assert with_gender > without
    assert (model.head.pooling.parts.keys() == {"attention"}) == (pooling == "attention")


def test_a_missing_gender_counts_for_nothing_in_that_head() -> None:
    config = config_of("li2019:small")
    utterances = [
        Utterance(name, "a.wav", gender=sex) for name, sex in zip("abc", ("male", None, "female"), strict=True)
    ]
    objective = Objective(config, (GENDER,), utterances, 4, Accelerator(cpu=True))
    assert objective.measure(utterances, 0.0).counts == {"gender": 2.0}


# ---- huang2017


def test_the_modules_come_from_flags() -> None:
    rows = {row.name: row.words for row in system_module("huang2017").ABLATION}
    heads = {name: downstream_of(config_of("huang2017:small", *words), (EMOTION,)).head for name, words in rows.items()}
    kinds = {name: (head.rnn is not None, type(head.pooling).__name__) for name, head in heads.items()}
    assert kinds == {
        "cnn": (False, "JoinedPooling"),
        "cnn-lstm-last": (True, "LastStatePooling"),
        "cnn-lstm-mean": (True, "JoinedPooling"),
        "cnn-lstm-pointwise": (True, "ConvolutionalPooling"),
        "cnn-lstm-convolutional": (True, "ConvolutionalPooling"),
    }
    kernels = [heads[f"cnn-lstm-{kind}"].pooling.score.kernel_size for kind in ("pointwise", "convolutional")]
    assert kernels[0] == (1,) and kernels[1] > (1,)


# ---- morais2022


MORAIS = ("head.channels=16", "head.scale=4", "head.attention_size=8", "head.embedding_size=8", "average_top=3")


@pytest.mark.parametrize("fusion", ["concat", "late"])
def test_two_upstreams_learn_with_one_ecapa_or_one_each(
    fusion: str, small_corpus: Path, store: Path, tmp_path: Path, tiny_upstream: Path
) -> None:
    """One epoch of the preset; the model that is saved gives what the averaged weights gave on test."""
    out, upstream = tmp_path / "run", f"upstream=w2v2={tiny_upstream}+hubert={tiny_upstream}"
    words = ("layers=2", upstream, f"fusion={fusion}", "max_steps=3", "eval_every=1", "device=cpu", *MORAIS)
    outcome = undertone("train", small_corpus, "--system", "morais2022", "--out", out, "--store", store, *words)
    assert outcome.status == 0, outcome.err
    (fold,) = RunFolder.finished(out).results["folds"]
    module = load_model(out).model
    heads = [part for part in module.downstream.modules() if isinstance(part, EcapaHead)]
    assert len(heads) == (1 if fusion == "concat" else 2)
    sizes = {"concat": [{"speech": 64}], "late": [{"w2v2": 32}, {"hubert": 32}]}
    assert [head.input_sizes for head in heads] == sizes[fusion]
    tested = RunFolder.finished(out).fold_predictions(fold["name"])
    clips = Manifest.load(out / "manifest").select(tested.ids[:3])
    found = module.predict_batch(WaveSource(16_000)(clips)).logits["emotion"].softmax(-1)
    raw = load_model(out / "folds" / fold["name"] / "model").model.predict_batch(WaveSource(16_000)(clips))
    torch.testing.assert_close(raw.logits["emotion"].softmax(-1), torch.from_numpy(tested.scores["emotion"][:3]))
    temperature = module.downstream.temperatures.get("emotion", 1.0)
    torch.testing.assert_close(found, (raw.logits["emotion"] / temperature).softmax(-1))


def test_the_nine_experiments_are_what_the_paper_says() -> None:
    made = row_configs("morais2022", "emodb")
    rows = {row.name[0]: (row, made[row.name]) for row in system_module("morais2022").ABLATION}
    assert sorted(rows) == list("123456789")
    for number, (row, config) in rows.items():
        assert "WA" in row.published and "UAR" in row.published
        assert config.average_top == (1 if number in "12" else 5)
        assert config.head == ("linear" if number in "1234" else "ecapa")
        assert config.fusion == {"7": "concat", "8": "late"}.get(number)
        assert config.trained == ("frozen" if number == "9" else "finetune") and config.layer_norm is False
        names = {"7": 2, "8": 2}.get(number, 1)
        assert len(config.of_streams()) == names and ("hubert" in config.upstream) == (number in "24678")
    base = {name: config.of_streams() for name, config in row_configs("morais2022:base", "emodb").items()}
    used = {own.upstream for row in base.values() for own in row.values()}
    assert used == {"facebook/wav2vec2-base", "facebook/hubert-base-ls960", "fbank"}


# ---- zou2022

ZOU = ("head.channels=[4,4,4,4,4]", "head.hidden_size=4", "head.size=8", "max_steps=2", "eval_every=2", "device=cpu")


@pytest.mark.parametrize("form", ["zou2022", "zou2022:free"])
def test_three_streams_learn_jointly_from_one_recording(
    form: str, small_corpus: Path, store: Path, tmp_path: Path, tiny_upstream: Path
) -> None:
    """The spectrogram's and the cepstra's states from the store, the sound for wav2vec 2.0; saved, read, the same."""
    out = tmp_path / "run"
    words = (f"upstream=ssl={tiny_upstream}+mfcc+spectrogram", "streams.ssl.layers=2", "batch_size=16", "lr=1e-2", *ZOU)
    words += (
        ("head.resize=64", "upstream_learning_rate=1e-2") if form == "zou2022" else ("upstream_learning_rate=1e-2",)
    )
    outcome = undertone(
        "train", small_corpus, "--system", form, "--out", out, "--store", store, "store_dtype=float32", *words
    )
    assert outcome.status == 0 and "ssl finetune, mfcc frozen, spectrogram frozen: trains" in outcome.err, outcome.err
    results = RunFolder.finished(out).results
    assert results["hidden_states"] == "ssl: none, mfcc: frames, spectrogram: frames"
    (fold,) = results["folds"]
    tested = RunFolder.finished(out).fold_predictions(fold["name"])
    clips = Manifest.load(out / "manifest").select(tested.ids[:3])
    model = load_model(out / "folds" / fold["name"] / "model").model
    found = model.predict_batch(WaveSource(16_000)(clips)).logits["emotion"].softmax(-1)
    torch.testing.assert_close(found, torch.from_numpy(tested.scores["emotion"][:3]), atol=2e-5, rtol=0)


def test_the_seven_rows_are_of_streams_and_of_how_they_are_joined() -> None:
    rows = row_configs("zou2022", "emodb")
    assert {name: tuple(config.of_streams()) for name, config in rows.items()} == {
        "mfcc": ("mfcc",),
        "spectrogram": ("spectrogram",),
        "ssl": ("ssl",),
        "mfcc-spectrogram": ("mfcc", "spectrogram"),
        **dict.fromkeys(("concat", "co-attention", "co-attention-softmax"), ("ssl", "mfcc", "spectrogram")),
    }
    whole = rows["co-attention"].of_streams()
    for config in rows.values():  # each stream is in every row as it is in the whole system
        for name, own in config.of_streams().items():
            assert (own.upstream, own.mode, own.layers, own.upstream_options) == (
                whole[name].upstream, whole[name].mode, whole[name].layers, whole[name].upstream_options
            )  # fmt: skip
    joined = {
        name: config.head_options.get("fusion", config.head_options.get("weights")) for name, config in rows.items()
    }
    assert joined["co-attention"] == "relu" and joined["co-attention-softmax"] == "softmax"
    assert all(joined[name] == "concat" for name in rows if "attention" not in name)
    free = {name: config.head_options.get("weights") for name, config in row_configs("zou2022:free", "emodb").items()}
    assert free["co-attention"] == "relu" and free["co-attention-softmax"] == "softmax"


def test_the_segments_are_three_seconds_of_every_stream(offline: Callable[[RunConfig], RunConfig]) -> None:
    config = offline(config_of("zou2022"))  # the tiny wav2vec 2.0 has the frames of all others
    frames = {
        name: int(part.frame_lengths(torch.tensor([48_000]))) for name, part in open_upstream(config).streams.items()
    }
    assert frames == config.head_options["segments"]
