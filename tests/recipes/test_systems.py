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
from undertone.upstream.types import WaveBatch, one_stream

EMOTION = Task("emotion", "classification", ("angry", "happy", "sad"))
GENDER = Task("gender", "classification", ("female", "male"))


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


CNN = ("head.channels=[4,4,4,4]", "head.hidden_size=8")
JIANG = ("head.channels=[4,4,4,4,4]", "head.attention_size=8", "head.hidden_size=8")
MORAIS = ("head.channels=16", "head.scale=4", "head.attention_size=8", "head.embedding_size=8")
ZOU = ("head.channels=[4,4,4,4,4]", "head.hidden_size=4", "head.size=8")
SMALLEST = {  # words for a preset or a variant of it; {ssl} and {video} are folders of tiny models
    **dict.fromkeys(("crnn", "huang2017", "li2019", "transformer"), CNN),
    "li2019:ssl": ("--upstream", "{ssl}", "head.hidden_size=8"),
    "trigeorgis2016": ("head.filters=2", "head.long_taps=50", "head.hidden_size=8", "tasks=emotion"),
    "jiang2022": JIANG,
    "parthasarathy2020": ("tasks=emotion",),
    "invariant": ("adversarial=speaker",),
    "superb": ("upstream={ssl}", "sweep={{}}", "max_steps=2", "eval_every=1"),
    "functionals": ("sweep.head.C=1e-3,1e-2",),
    "contours": ("sweep.head.C=1e-3,1e-2",),
    "undertone": ("sweep.head.C=0.1,0.2",),
    "undertone:ssl": ("upstream={ssl}",),
    "morais2022": ("upstream=w2v2={ssl}+hubert={ssl}", "layers=2", *MORAIS),
    "zou2022": ("upstream=ssl={ssl}+mfcc+spectrogram", "streams.ssl.layers=2", "head.resize=64", *ZOU),
    "zou2022:free": ("upstream=ssl={ssl}+mfcc+spectrogram", "streams.ssl.layers=2", *ZOU),
    "tzirakis2017": (
        *(
            "upstream=waveform+video={video}",
            "tasks=emotion",
            "head.filters=4",
            "head.num_maps=1",
            "head.hidden_size=8",
        ),
    ),
}
FORMS = [
    f"{name}:{variant}" if variant else name
    for name in available_systems()
    for variant in ("", *getattr(system_module(name), "VARIANTS", {}))
]
# With these words the same graph as another form's, or nearly.
ALIKE = {name for name in available_systems() if "small" in getattr(system_module(name), "VARIANTS", {})}
ALIKE |= {"morais2022:base", "superb:split", "tzirakis2017:frozen"}


@pytest.mark.parametrize(
    "form", [pytest.param(form, marks=pytest.mark.slow if form in ALIKE else ()) for form in FORMS]
)
def test_trains_an_epoch_is_saved_and_predicts_what_it_did(
    form: str, like_emodb: Path, store: Path, tmp_path: Path, tiny_upstream: Path, tiny_resnet: Path
) -> None:
    """The loaded model gives the test predictions of the training; short and long clips, alone and in a batch."""
    if form == "parthasarathy2020":
        pytest.importorskip("opensmile")
    words = SMALLEST[form if form in SMALLEST else form.partition(":")[0]]
    words = tuple(word.format(ssl=tiny_upstream, video=tiny_resnet) for word in words)
    if not head_class(config_of(form).head).is_fitted:
        words += ("max_epochs=1",)
    words += ("protocol=groups", "num_folds=4", "device=cpu", f"store={store}", "store_dtype=float32")
    outcome = undertone("train", like_emodb, "--system", form, "--out", tmp_path / "run", *words)
    assert outcome.status == 0, outcome.err
    run = RunFolder.finished(tmp_path / "run")
    (fold,) = run.results["folds"]
    tested, model = run.fold_predictions(fold["name"]), load_model(run.fold(fold["name"]) / "model").model
    assert [task.name for task in tested.tasks] == [task.name for task in model.tasks] and len(tested.ids) == 4
    clips = WaveSource(16_000)(Manifest.load(tmp_path / "run" / "manifest").select(tested.ids))
    for task, logits in model.predict_batch(clips).logits.items():
        torch.testing.assert_close(logits.softmax(-1), torch.from_numpy(tested.scores[task]), atol=1e-5, rtol=0)
    sound = clips.samples[0, : clips.lengths[0]]
    waves = [sound[8_000:12_800], sound.repeat(20)[: 12 * 16_000]]
    assert [len(wave) / 16_000 for wave in waves] == [0.3, 12.0]
    together = model.predict_batch(WaveBatch.collate(waves, 16_000)).logits
    # A solver's weights on thousands of features: a logit's terms add up to hundreds, and 1e-7 of that is rounding.
    close = 1e-4 if head_class(config_of(form).head).is_fitted else 1e-5
    for row, wave in enumerate(waves):
        for task, logits in model.predict_batch(WaveBatch.collate([wave], 16_000)).logits.items():
            assert logits.isfinite().all()
            torch.testing.assert_close(together[task][row], logits[0], atol=close, rtol=1e-6)


# ---- li2019


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


@pytest.mark.parametrize("fusion", ["concat", "late"])
def test_two_upstreams_learn_with_one_ecapa_or_one_each(
    fusion: str, small_corpus: Path, store: Path, tmp_path: Path, tiny_upstream: Path
) -> None:
    """One epoch of the preset; the model that is saved gives what the averaged weights gave on test."""
    out, upstream = tmp_path / "run", f"upstream=w2v2={tiny_upstream}+hubert={tiny_upstream}"
    words = (
        "layers=2",
        upstream,
        f"fusion={fusion}",
        "max_steps=3",
        "eval_every=1",
        "device=cpu",
        "average_top=3",
        *MORAIS,
    )
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


@pytest.mark.parametrize("form", ["zou2022", "zou2022:free"])
def test_three_streams_learn_jointly_from_one_recording(
    form: str, small_corpus: Path, store: Path, tmp_path: Path, tiny_upstream: Path
) -> None:
    """The spectrogram's and the cepstra's states from the store, the sound for wav2vec 2.0; saved, read, the same."""
    out = tmp_path / "run"
    words = (f"upstream=ssl={tiny_upstream}+mfcc+spectrogram", "streams.ssl.layers=2", "batch_size=16", "lr=1e-2", *ZOU)
    words += ("max_steps=2", "eval_every=2", "device=cpu")
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
