"""`undertone bench`: what it measures on a tiny upstream, and what it concludes, against numbers worked by hand."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from undertone.common.console import Display
from undertone.corpora.folds import Fold
from undertone.corpora.manifest import Manifest, Utterance
from undertone.experiments import bench as benching
from undertone.experiments import bench_extraction
from undertone.experiments.bench import TRAININGS, bench, padded_seconds, training_config, typical_batch
from undertone.experiments.bench_estimate import as_json, estimate_all, in_time, recommend
from undertone.experiments.bench_extraction import Clock, Sampling, precisions, spread
from undertone.training.config import RunConfig
from undertone.training.settings import make_config
from undertone.upstream import load_upstream
from undertone.upstream.acoustic.mfcc import Mfcc
from undertone.upstream.hf.random_weights import save_random
from undertone.upstream.linear_layers import has_int8
from undertone.upstream.precision import native_precision
from undertone.upstream.store.extract import ExtractionReport

CPU = torch.device("cpu")
FRAMES = {"precision": "float32", "kind": "frames", "audio_s_per_s": 2.0, "setup_s": 1.0}
MEANS = {"precision": "float32", "kind": "mean", "audio_s_per_s": 8.0, "setup_s": 0.5}
EXTRACTION = {"frames": FRAMES, "mean": MEANS}
STORED = {"linear": "mean", "attention": "frames", "lora": None, "finetune": None}


@pytest.fixture(scope="module")
def found(small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """A bench of a tiny wav2vec 2.0 on the small corpus, and the folder of its store."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("bench")
    upstream, store = save_random("tiny-wav2vec2", folder / "tiny"), folder / "store"
    words = [f"store={store}", f"upstream={upstream}", "batch_size=4", "device=cpu"]
    config = make_config({"corpus": str(small_corpus)}, words)
    return as_json(bench(config, Display(quiet=True), seconds=0.3)), store


def test_a_bench_has_a_speed_for_each_precision_and_an_estimate_for_each_training(found: Any) -> None:
    result, store = found
    fast = ["bf16"] * (native_precision(CPU) == "bf16") + ["int8"] * has_int8()
    assert [(row["precision"], row["kind"]) for row in result["extraction"]] == [
        (precision, kind) for precision in ("float32", *fast) for kind in ("mean", "frames")
    ]
    assert all(row["audio_s_per_s"] > 1 and row["clips"] >= 3 for row in result["extraction"])
    assert [row["training"] for row in result["trainings"]] == list(TRAININGS)
    for row in result["trainings"]:
        assert 0 < row["update_s"] < 5 and row["updates"] == 40 * 8  # 32 of 64 clips are trained on, by 4
        assert row["total_s"] == pytest.approx(row["extraction_s"] + row["trainings_s"], rel=1e-3)
        assert row["trainings_s"] > row["updates"] * row["update_s"] * 4  # folds
        frozen = row["training"] in ("linear", "attention")
        assert (row["extraction_s"] > 0, row["store_bytes"] > 0) == (frozen, frozen)
        assert row["stored"] == STORED[row["training"]] and row["stacked"] == (row["training"] == "linear")
    by_name = {row["training"]: row for row in result["trainings"]}
    assert by_name["linear"]["update_s"] < by_name["lora"]["update_s"]
    assert result["corpus"]["clips"] == 64 and result["corpus"]["folds"] == 4
    assert json.loads(json.dumps(result)) == result and result["recommended"]["training"] in TRAININGS
    assert [path.name for path in store.iterdir()] == [
        "audio"
    ]  # what was measured on is gone, what was checked is known


def test_the_head_of_a_sweep_and_of_all_speakers_are_timed_apart(small_corpus: Path, tmp_path: Path) -> None:
    words = [f"store={tmp_path}", "batch_size=4", "device=cpu", "sweep.lr=1e-2,1e-3,1e-4"]
    config = make_config({"corpus": str(small_corpus)}, words)
    (row,) = bench(config, Display(quiet=True), seconds=0.3, only=("linear",))["trainings"]
    assert row["trainings_at_once"] == 3 and 0 < row["alone_update_s"] < 5 and 0 < row["update_s"] < 5


def test_an_upstream_without_weights_has_no_lora_and_no_finetuning(small_corpus: Path, tmp_path: Path) -> None:
    config = make_config({"corpus": str(small_corpus)}, [f"store={tmp_path}", "batch_size=16", "device=cpu"])
    result = bench(config, Display(quiet=True), seconds=0.3)
    assert [row["training"] for row in result["trainings"]] == ["linear", "attention"]
    assert [note.split(":")[0] for note in result["notes"] if "left out" in note] == [
        "lora is left out", "finetune is left out",
    ]  # fmt: skip


def test_a_run_in_bf16_is_estimated_in_bf16_and_its_linear_heads_side_by_side(
    small_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `can_stack` has it; a processor without bf16 of its own measures it all the same where the run uses it."""
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False)
    words = [f"store={tmp_path}", "upstream=tiny", "batch_size=4", "device=cpu"]
    config = make_config({"corpus": str(small_corpus)}, [*words, "mixed_precision=bf16"])
    found = bench(config, Display(quiet=True), seconds=0.3, only=("linear",))
    (row,) = found["trainings"]
    (passed,) = (one for one in found["extraction"] if one["precision"] == "bf16")
    assert passed["kind"] == "mean" and row["stacked"]
    assert row["extraction_s"] == pytest.approx(
        found["corpus"]["audio_s"] / passed["audio_s_per_s"] + passed["setup_s"], rel=0.02
    )
    assert 0 < row["update_s"] < 5
    assert "mixed_precision=bf16" in found["recommended"]["command"]


@pytest.mark.skipif(not has_int8(), reason="torch has no integer products of oneDNN here")
def test_trainings_that_a_run_refuses_are_left_out(small_corpus: Path, tmp_path: Path) -> None:
    """What is recommended is a config that a run takes."""
    words = [f"store={tmp_path}", "upstream=tiny", "batch_size=16", "device=cpu"]
    config = make_config({"corpus": str(small_corpus)}, [*words, "mixed_precision=int8"])
    found = bench(config, Display(quiet=True), seconds=0.3)
    assert [row["training"] for row in found["trainings"]] == ["linear", "attention"]
    assert [note for note in found["notes"] if "int8" in note] == [
        f"{mode} is left out: mixed_precision=int8 is for a frozen upstream, and mode={mode} trains its weights. "
        f"Use mixed_precision=bf16 or no."
        for mode in ("lora", "finetune")
    ]
    _, settings = words_of(found["recommended"], str(small_corpus))
    make_config({"corpus": str(small_corpus)}, settings)
    assert "mixed_precision=int8" in settings


def test_with_layer_norm_linear_heads_need_frames() -> None:
    upstream = load_upstream("tiny")
    for words, kinds in (([], ["mean", "frames", None]), (["layer_norm=true"], ["frames", "frames", None])):
        config = make_config({"corpus": "synthetic"}, words)
        own = [training_config(config, name, upstream) for name in ("linear", "attention", "lora")]
        assert [benching.stored_kind(one) for one in own] == kinds


def made(count: int) -> tuple[Manifest, list[Fold]]:
    """So many clips of 1 s for each of train, dev and test of two folds."""
    names = [f"clip{number:02}" for number in range(3 * count)]
    rows = [
        {"id": name, "path": f"/{name}.wav", "corpus": "made", "duration": 1.0, "audio_hash": name} for name in names
    ]
    parts = tuple(names[:count]), tuple(names[count : 2 * count]), tuple(names[2 * count :])
    return Manifest.from_rows("made", rows), [Fold("one", *parts), Fold("two", *parts)]


def row_of(name: str, **values: Any) -> dict[str, Any]:
    cheap = {"checkpoint_s": 0.0, "predict_s_per_audio_s": 0.0, "largest_batch": 128, "store_bytes": 0}
    return {
        "training": name,
        "stored": STORED[name],
        "stacked": name == "linear",
        "batch_size": 4,
        "measured_clips": 4,
        "trainings_at_once": 1,
        "folds_at_once": 1,
        "alone_update_s": values.get("update_s"),
        **cheap,
        **values,
    }


def test_estimates_are_those_worked_by_hand() -> None:
    manifest, folds = made(8)
    config = RunConfig(corpus="made", batch_size=4, max_epochs=3)
    attention = row_of("attention", update_s=0.5, checkpoint_s=0.1, predict_s_per_audio_s=0.01)
    lora, linear = row_of("lora", update_s=10.0), row_of("linear", update_s=0.2)
    found = estimate_all(config, manifest, folds, [attention, lora, linear], EXTRACTION, parallel=2)
    assert [row["updates"] for row in found] == [6, 6, 6]
    # 6 updates, 3 evaluations of 8 s of dev with a checkpoint, dev and test once more; two folds, one model of all
    assert found[0]["trainings_s"] == pytest.approx(2 * (6 * 0.5 + 3 * (0.1 + 0.08) + 0.16) + 6 * 0.5)
    side_by_side = estimate_all(config, manifest, folds, [attention | {"folds_at_once": 2}], EXTRACTION, parallel=2)
    assert side_by_side[0]["trainings_s"] == pytest.approx((6 * 0.5 + 3 * (0.1 + 0.08) + 0.16) + 6 * 0.5)
    assert found[0]["extraction_s"] == 24 / 2 + 1 and found[0]["total_s"] == found[0]["trainings_s"] + 13
    assert found[1]["total_s"] == found[1]["trainings_s"] == (2 + 1) * 6 * 10
    assert found[2]["extraction_s"] == 24 / 8 + 0.5  # of means
    assert found[2]["trainings_s"] == pytest.approx((1 + 1) * 6 * 0.2)  # both folds at once
    one_core, on_gpu = (
        estimate_all(config, manifest, folds, [linear], EXTRACTION, parallel=count)[0]["trainings_s"]
        for count in (1, 0)
    )
    assert (one_core, on_gpu) == pytest.approx((3 * 6 * 0.2, 2 * 6 * 0.2))


def test_a_sweep_and_seeds_count() -> None:
    manifest, folds = made(8)
    config = make_config({"corpus": "made"}, ["batch_size=4", "max_steps=6", "sweep.lr=1e-3,1e-4", "seeds=3"])
    (lora, linear) = estimate_all(
        config, manifest, folds, [row_of("lora", update_s=1.0), row_of("linear", update_s=1.0)], EXTRACTION, 1
    )
    assert lora["trainings_s"] == 2 * 3 * 2 * 6 + 6  # values, seeds, folds
    assert linear["trainings_s"] == 3 * 2 * 6 + 6  # the values side by side
    stack = row_of("linear", update_s=5.0, alone_update_s=2.0, trainings_at_once=5)
    for parallel, turns in ((0, 3), (1, 6), (2, 3), (4, 1.8), (5, 1.2), (8, 1)):  # of 6 stacks; the last ones divided
        found = estimate_all(config, manifest, folds, [stack], EXTRACTION, parallel)[0]["trainings_s"]
        assert found == pytest.approx(6 * (turns * 5.0 + 2.0))


def advice(*rows: dict[str, Any], free: int = 10**12, extraction: Any = (MEANS, FRAMES), words: Any = ()) -> Any:
    config = make_config({"corpus": "calls.csv", "upstream": "user/name"}, ["batch_size=8", *words])
    return recommend(config, {"trainings": rows, "extraction": list(extraction)}, free, TRAININGS)


def of_total(name: str, hours: float, **values: Any) -> dict[str, Any]:
    return row_of(name, total_s=hours * 3600, extraction_s=600.0, **values)


def words_of(found: dict[str, Any], corpus: str = "calls.csv") -> tuple[list[str], list[str]]:
    program, command, *words = shlex.split(found["command"])
    assert (program, command, words[0]) == ("undertone", "crossval", corpus)
    return words, [word for word in words if "=" in word]


def test_the_best_training_that_ends_within_a_night_is_recommended() -> None:
    rows = [of_total("linear", 1), of_total("attention", 3), of_total("lora", 7), of_total("finetune", 7)]
    found = advice(*rows)
    assert found["training"] == "lora" and found["seconds"] == 7 * 3600 and "within 8.0 h" in found["why"]
    words, settings = words_of(found)
    assert settings == ["mode=lora", "batch_size=8"] and words[words.index("--out") + 1] == "runs/calls-name-lora"
    assert advice(*rows[:2], of_total("lora", 9))["training"] == "attention"
    late = advice(of_total("linear", 20), of_total("attention", 30))
    assert late["training"] == "linear" and "is the quickest; none of" in late["why"]


def test_a_batch_that_does_not_fit_is_accumulated() -> None:
    assert "accumulation=3" in words_of(advice(of_total("lora", 1, largest_batch=3)))[1]
    assert set(words_of(advice(of_total("lora", 1, largest_batch=0)))[1]) >= {
        "accumulation=8", "gradient_checkpointing=true",
    }  # fmt: skip
    found = advice(of_total("lora", 1, largest_batch=8))
    assert not [word for word in words_of(found)[1] if word.startswith("accumulation")]


def test_frames_that_the_disk_does_not_hold_are_stored_as_int8_or_not_at_all() -> None:
    rows = [of_total("linear", 1), of_total("attention", 2, store_bytes=600)]
    found = advice(*rows, free=1000)
    assert found["training"] == "attention" and "store_dtype=int8" in words_of(found)[1]
    assert "600.0 B, more than half of the free disk" in found["why"]
    assert advice(*rows, free=500)["training"] == "linear"
    asked = advice(*rows, free=1000, words=["store_dtype=int8"])  # these 600 are of int8
    assert asked["training"] == "linear"
    fits = advice(*rows, free=1200, words=["store_dtype=int8"])
    assert fits["training"] == "attention" and "half of the free disk" not in fits["why"]
    assert advice(*rows, free=300, words=["store_dtype=float32"])["training"] == "attention"


def test_a_faster_precision_is_recommended_where_it_pays() -> None:
    rows = [of_total("attention", 2)]
    for speed, wanted in ((4.0, True), (2.1, False)):
        bf16 = FRAMES | {"precision": "bf16", "audio_s_per_s": speed}
        found = advice(*rows, extraction=(MEANS, FRAMES, MEANS | {"precision": "bf16"}, bf16))
        assert ("mixed_precision=bf16" in words_of(found)[1]) == wanted
        assert found["seconds"] == pytest.approx(2 * 3600 - 600 * 0.5 * wanted)
    learning = advice(of_total("lora", 1), extraction=(MEANS, bf16))
    assert not [word for word in words_of(learning)[1] if "precision" in word]


def test_a_precision_that_was_asked_for_is_kept() -> None:
    fast = [
        MEANS | {"precision": precision, "audio_s_per_s": speed} for precision, speed in (("bf16", 90), ("int8", 50))
    ]
    rows, speeds = [of_total("linear", 2)], (MEANS, FRAMES, *fast)
    assert "mixed_precision=bf16" in words_of(advice(*rows, extraction=speeds))[1]
    asked = advice(*rows, extraction=speeds, words=["mixed_precision=int8"])
    assert "mixed_precision=int8" in words_of(asked)[1] and asked["seconds"] == 2 * 3600


def test_autograd_keeps_what_a_linear_layer_and_relu_need() -> None:
    layer, batch = torch.nn.Linear(6, 5), torch.randn(8, 6)
    with benching._kept_bytes(layer) as kept:
        torch.relu(layer(batch)).square().sum().backward()
    # relu's output, kept by relu and by square, once; the input; the weights are not counted
    assert sum(kept.values()) == 4 * (8 * 6 + 8 * 5)
    assert layer.weight.grad is not None


def clip(name: str, seconds: float) -> Utterance:
    return Utterance(id=name, path=Path(f"/{name}.wav"), corpus="made", duration=seconds, audio_hash=name)


def test_samples_are_of_all_lengths_and_a_typical_batch_is_as_long_as_the_mean() -> None:
    clips = [clip(f"{number:03}", 1 + number / 10) for number in range(100)]
    assert [item.id for item in spread(clips[::-1], 5)] == ["010", "030", "050", "070", "090"]
    assert spread(clips[:3], 10) == clips[:3]
    config = RunConfig(corpus="made", batch_size=10)
    batch, mean = typical_batch(config, clips, jitter=0.0)
    assert len(batch) == 10 and mean == pytest.approx(10 * sum(1.9 + k for k in range(10)) / 10)
    assert padded_seconds(batch) == pytest.approx(mean, abs=10)


class Machine:
    """Instead of time and `extract`: so many s of audio a second after so many s of set-up, the first time 3 s more."""

    def __init__(self, speed: float, setup: float) -> None:
        self.speed, self.setup, self.now, self.passes = speed, setup, 0.0, []

    def monotonic(self) -> float:
        return self.now

    def extract(self, upstream: Any, clips: Any, store: Any, **_: Any) -> ExtractionReport:
        audio = sum(item.duration for item in clips)
        took = audio / self.speed + self.setup
        self.passes.append(took)
        self.now += took + 3.0 * (len(self.passes) == 1)
        return ExtractionReport(audio, took, len(clips), 0, [])


@pytest.mark.parametrize("kind", ["mean", "frames"])
@pytest.mark.parametrize(("speed", "setup"), [(100.0, 0.0), (100.0, 1.0), (500.0, 2.0), (2.0, 0.1)])
def test_samples_grow_while_there_is_time(
    speed: float, setup: float, kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(speed, setup)
    monkeypatch.setattr(bench_extraction, "time", machine)
    monkeypatch.setattr(bench_extraction, "extract", machine.extract)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    clips = [clip(f"{number:05}", 1 + number % 7 / 2) for number in range(4000)]
    sampling = Sampling(Mfcc(), clips, "float16", CPU, tmp_path, Clock(lambda *_: None, 100.0))
    row = sampling.row("no", kind, 20.0)
    assert row["audio_s_per_s"] == pytest.approx(speed, rel=1e-3) and row["setup_s"] == pytest.approx(setup, abs=0.01)
    assert (row["precision"], row["kind"]) == ("float32", kind) and row["seconds"] == pytest.approx(machine.passes[-1])
    assert 5 < machine.passes[-1] and 10 < machine.now < 20 and not list(tmp_path.iterdir())


def test_a_sample_is_at_most_the_corpus_and_at_least_three_times_the_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    clips = [clip(f"{number:05}", 2.0) for number in range(50)]
    for speed, some, counts in (
        (1000.0, clips, [2, 2, 50]), (0.01, clips, [2, 2, 6]), (1.0, clips[:3], [2, 2, 3]), (1.0, clips[:1], [1, 1]),
    ):  # fmt: skip
        machine = Machine(speed, 0.5)
        monkeypatch.setattr(bench_extraction, "time", machine)
        monkeypatch.setattr(bench_extraction, "extract", machine.extract)
        sampling = Sampling(Mfcc(), some, "float16", CPU, tmp_path, Clock(lambda *_: None, 100.0))
        row = sampling.row("no", "mean", 20.0)
        assert [round((took - 0.5) * speed / 2) for took in machine.passes] == counts
        assert row["clips"] == counts[-1]


def test_bf16_is_measured_where_the_processor_has_it() -> None:
    info = Path("/proc/cpuinfo")
    if not info.is_file() or "x86" not in torch.backends.cpu.get_cpu_capability().lower() + "x86":
        pytest.skip("needs /proc/cpuinfo")
    flags = set(info.read_text().split())
    assert ("bf16" in precisions(CPU, load_upstream("tiny"))) == bool(flags & {"avx512_bf16", "amx_bf16"})


def test_int8_is_measured_where_there_are_linear_layers() -> None:
    assert ("int8" in precisions(CPU, load_upstream("tiny"))) == has_int8()


def test_precisions_that_change_nothing_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert precisions(CPU, Mfcc()) == ["no"]
    codec = torch.nn.Conv1d(1, 2, 3)  # weights, and no linear layer
    assert precisions(CPU, codec) == ["no", "bf16"]  # type: ignore[arg-type]
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False)
    assert precisions(CPU, codec) == ["no"] and precisions(CPU, codec, "bf16") == ["no", "bf16"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.25, "0.2 s"),
        (7.6, "8 s"),
        (99, "99 s"),
        (150, "2.5 min"),
        (3300, "55 min"),
        (12_600, "3.5 h"),
        (4e5, "4.6 days"),
    ],
)
def test_times_are_said_in_two_digits(seconds: float, words: str) -> None:
    assert in_time(seconds) == words


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["head=svm"], "head=svm is fitted by a solver, without updates"),
        (["head=crnn"], "head=crnn is not among them"),
        (["upstream=fbank+mfcc"], r"bench times one upstream at a time, got fbank\+mfcc"),
        (["layers=1"], "it does not measure what layers changes. Leave layers out"),
        (["mode=lora"], "it does not measure what mode changes"),
        (["augment.gain=6"], "it does not measure what augment changes"),
        (["sweep.batch_size=8,32"], r"got sweep.batch_size. Leave it out, or bench each of its values as a setting"),
        (["sweep.head.hidden_size=8,16"], "got sweep.head"),
    ],
)
def test_settings_that_are_not_timed_are_refused(words: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        bench(make_config({"corpus": "synthetic", "root": str(tmp_path)}, words), Display(quiet=True))
    assert not list(tmp_path.iterdir())
