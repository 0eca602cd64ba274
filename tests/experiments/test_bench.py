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
from undertone.experiments.bench import TRAININGS, bench, padded_seconds, precisions, spread, typical_batch
from undertone.experiments.bench_estimate import as_json, estimate_all, in_time, recommend
from undertone.training.config import RunConfig
from undertone.training.settings import make_config
from undertone.upstream import load_upstream
from undertone.upstream.acoustic.mfcc import Mfcc
from undertone.upstream.hf.random_weights import save_random
from undertone.upstream.linear_layers import has_int8

CPU = torch.device("cpu")
EXTRACTION = {"precision": "float32", "audio_s_per_s": 2.0, "setup_s": 1.0}


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
    has_bf16 = "bf16" in precisions(CPU, Mfcc())
    assert [row["precision"] for row in result["extraction"]] == [
        "float32",
        *["bf16"] * has_bf16,
        *["int8"] * has_int8(),
    ]
    assert all(row["audio_s_per_s"] > 1 and row["clips"] >= 4 for row in result["extraction"])
    assert [row["training"] for row in result["trainings"]] == list(TRAININGS)
    for row in result["trainings"]:
        assert 0 < row["update_s"] < 5 and row["updates"] == 40 * 8  # 32 of 64 clips are trained on, by 4
        assert row["total_s"] == pytest.approx(row["extraction_s"] + row["trainings_s"], rel=1e-3)
        assert row["trainings_s"] > row["updates"] * row["update_s"] * 4  # folds
        frozen = row["training"] in ("linear", "attention")
        assert (row["extraction_s"] > 0, row["store_bytes"] > 0) == (frozen, frozen)
    by_name = {row["training"]: row for row in result["trainings"]}
    assert by_name["linear"]["update_s"] < by_name["lora"]["update_s"]
    assert result["corpus"]["clips"] == 64 and result["corpus"]["folds"] == 4
    assert json.loads(json.dumps(result)) == result and result["recommended"]["training"] in TRAININGS
    assert [path.name for path in store.iterdir()] == [
        "audio"
    ]  # what was measured on is gone, what was checked is known


def test_an_upstream_without_weights_has_no_lora_and_no_finetuning(small_corpus: Path, tmp_path: Path) -> None:
    config = make_config({"corpus": str(small_corpus)}, [f"store={tmp_path}", "batch_size=16", "device=cpu"])
    result = bench(config, Display(quiet=True), seconds=0.3)
    assert [row["training"] for row in result["trainings"]] == ["linear", "attention"]
    assert [note.split(":")[0] for note in result["notes"] if "left out" in note] == [
        "lora is left out", "finetune is left out",
    ]  # fmt: skip


def made(count: int) -> tuple[Manifest, list[Fold]]:
    """So many clips of 1 s for each of train, dev and test of two folds."""
    names = [f"clip{number:02}" for number in range(3 * count)]
    rows = [
        {"id": name, "path": f"/{name}.wav", "corpus": "made", "duration": 1.0, "audio_hash": name} for name in names
    ]
    parts = tuple(names[:count]), tuple(names[count : 2 * count]), tuple(names[2 * count :])
    return Manifest.from_rows("made", rows), [Fold("one", *parts), Fold("two", *parts)]


def row_of(name: str, **values: float) -> dict[str, Any]:
    cheap = {"checkpoint_s": 0.0, "predict_s_per_audio_s": 0.0, "largest_batch": 128, "store_bytes": 0}
    return {
        "training": name,
        "batch_size": 4,
        "measured_clips": 4,
        "trainings_at_once": 1,
        "folds_at_once": 1,
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


def advice(*rows: dict[str, Any], free: int = 10**12, extraction: Any = (EXTRACTION,)) -> dict[str, Any]:
    config = make_config({"corpus": "calls.csv", "upstream": "user/name"}, ["batch_size=8"])
    return recommend(config, {"trainings": rows, "extraction": list(extraction)}, free, TRAININGS)


def of_total(name: str, hours: float, **values: Any) -> dict[str, Any]:
    return row_of(name, total_s=hours * 3600, extraction_s=600.0, **values)


def words_of(found: dict[str, Any]) -> tuple[list[str], list[str]]:
    program, command, *words = shlex.split(found["command"])
    assert (program, command, words[0]) == ("undertone", "crossval", "calls.csv")
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


def test_a_faster_precision_is_recommended_where_it_pays() -> None:
    rows = [of_total("attention", 2)]
    for speed, wanted in ((4.0, True), (2.1, False)):
        found = advice(*rows, extraction=(EXTRACTION, {"precision": "bf16", "audio_s_per_s": speed, "setup_s": 1.0}))
        assert ("mixed_precision=bf16" in words_of(found)[1]) == wanted
        assert found["seconds"] == pytest.approx(2 * 3600 - 600 * 0.5 * wanted)
    learning = advice(of_total("lora", 1), extraction=(EXTRACTION, {**EXTRACTION, "precision": "bf16"}))
    assert not [word for word in words_of(learning)[1] if "precision" in word]


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


def test_bf16_is_measured_where_the_processor_has_it() -> None:
    info = Path("/proc/cpuinfo")
    if not info.is_file() or "x86" not in torch.backends.cpu.get_cpu_capability().lower() + "x86":
        pytest.skip("needs /proc/cpuinfo")
    flags = set(info.read_text().split())
    assert ("bf16" in precisions(CPU, Mfcc())) == bool(flags & {"avx512_bf16", "amx_bf16"})


def test_int8_is_measured_where_there_are_linear_layers() -> None:
    assert "int8" not in precisions(CPU, Mfcc())
    assert ("int8" in precisions(CPU, load_upstream("tiny"))) == has_int8()


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
    ],
)
def test_settings_that_are_not_timed_are_refused(words: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        bench(make_config({"corpus": "synthetic", "root": str(tmp_path)}, words), Display(quiet=True))
    assert not list(tmp_path.iterdir())
