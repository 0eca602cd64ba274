"""Every setting of corpus, folds, upstream, head and store does what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from undertone.tests.cli.commands import TINY, undertone
from undertone.tests.cli.runs import (
    LAST,
    Train,
    distance,
    history,
    model_config,
    results,
    rows_of,
    weights,
    write_table,
)
from undertone.upstream.hf.random_weights import save_random

OWN_UPSTREAM = '''
from undertone.upstream.acoustic._base import Acoustic

class Blocks(Acoustic):
    """Mean levels of the parts of each frame."""

    def __init__(self, parts: int = 2) -> None:
        super().__init__()
        self.hidden_size = parts

    def features(self, wave):
        frames = wave.unfold(0, self.window, self.hop)
        return frames.abs().reshape(len(frames), self.hidden_size, -1).mean(-1)
'''


def test_corpus_names_what_is_trained_on(trained: Train, small_corpus: Path, tmp_path: Path) -> None:
    run = trained(corpus=write_table(tmp_path / "mine.csv", rows_of(small_corpus)))
    assert results(run)["corpus"] == "mine" and results(trained())["corpus"] == small_corpus.stem


def test_corpus_options_reach_the_corpus(trained: Train, tmp_path: Path) -> None:
    run = trained(f"root={tmp_path}", "corpus.num_speakers=3", "corpus.per_emotion=1", corpus="synthetic")
    assert results(run)["num_utterances"] == 3 * 4 * 1 and results(run)["num_speakers"] == 3


def test_root_is_where_the_files_are(trained: Train, small_corpus: Path, tmp_path: Path) -> None:
    rows = [row | {"file": Path(row["file"]).name} for row in rows_of(small_corpus)]
    table = tmp_path / "names.jsonl"
    table.write_text("".join(json.dumps(row | {"arousal": float(row["arousal"])}) + "\n" for row in rows))
    assert undertone("train", table, "--out", tmp_path / "none", *TINY).status == 2
    run = trained(f"root={small_corpus.parent / 'seed1'}", corpus=table)
    assert results(run)["num_utterances"] == len(rows)


def test_strict_stops_at_a_broken_file(trained: Train, small_corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no sound")
    broken = rows_of(small_corpus)[0] | {"file": tmp_path / "text.wav"}
    table = write_table(tmp_path / "one_broken.csv", [*rows_of(small_corpus), broken])
    assert "skipped" in " ".join(results(trained(corpus=table))["warnings"])
    outcome = undertone("train", table, "--out", tmp_path / "run", "strict=true", *TINY)
    assert outcome.status == 2 and "leave strict out" in outcome.err and "text.wav" in outcome.err


def test_tasks_are_what_is_predicted(trained: Train) -> None:
    assert set(results(trained())["pooled"]) == {"emotion", "gender"}
    run = trained("tasks=arousal,gender")
    assert list(results(run)["pooled"]) == ["arousal", "gender"]
    assert [task["kind"] for task in model_config(run)["tasks"]] == ["regression", "classification"]


def test_task_weights_scale_a_tasks_loss(trained: Train) -> None:
    alone, both = trained("task_weights.gender=0", LAST), trained("task_weights.gender=2", LAST)
    assert history(alone)[0]["train_loss"] < history(both)[0]["train_loss"] - 1  # 2 ln 2 of two classes
    assert [task["weight"] for task in model_config(both)["tasks"]] == [1, 2]


def test_protocol_makes_the_folds(trained: Train) -> None:
    assert results(trained("protocol=speaker"))["folds"][0]["name"] == "F1"
    assert results(trained())["protocol"] == "speaker"  # what `auto` chose
    run = trained("protocol=random")
    assert results(run)["folds"][0]["name"] == "part1"
    assert results(run)["speaker_independent"] is False and results(trained())["speaker_independent"] is True


def test_num_folds_is_the_number_of_groups(small_corpus: Path, store: Path, tmp_path: Path) -> None:
    words = ("protocol=groups", "num_folds=3", f"store={store}", *TINY)
    outcome = undertone("train", small_corpus, "--out", tmp_path, "--fold", "group7", *words)
    assert outcome.fails_with("No fold 'group7'; the folds are: group1, group2, group3.")


def test_allow_leak_runs_folds_that_share_a_speaker_and_says_so(
    small_corpus: Path, store: Path, tmp_path: Path
) -> None:
    parts = ["train", "train", "dev", "test"] * 16  # of every speaker's utterances
    rows = [row | {"split": part} for row, part in zip(rows_of(small_corpus), parts, strict=True)]
    table = write_table(tmp_path / "leaks.csv", rows)
    words = ("train", table, "--out", tmp_path / "run", "protocol=split", f"store={store}", *TINY)
    refused = undertone(*words)
    assert refused.status == 2 and "leaks/F1" in refused.err and not (tmp_path / "run" / "folds").exists()
    allowed = undertone(*words, "allow_leak=true")
    assert allowed.status == 0 and "SPEAKER-DEPENDENT" in allowed.out
    assert results(tmp_path / "run")["speaker_independent"] is False


def test_upstream_gives_the_features(trained: Train) -> None:
    run = trained("upstream=mfcc")
    assert weights(run)["downstream.head.projector.weight"].shape[1] == 39
    assert weights(trained())["downstream.head.projector.weight"].shape[1] == 240
    assert model_config(run)["upstream"]["name"] == "mfcc"


@pytest.mark.slow
def test_revision_chooses_the_commit_on_the_hub(trained: Train, tmp_path: Path, monkeypatch: Any) -> None:
    repository = tmp_path / "models--me--tiny"
    (repository / "refs").mkdir(parents=True)
    for number, branch in enumerate(("main", "second")):
        (repository / "refs" / branch).write_text(str(number) * 40)
        save_random("tiny-wavlm", repository / "snapshots" / (str(number) * 40), seed=number)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    words = ("upstream=me/tiny", "head=linear", "max_steps=1")
    first, second = trained(*words), trained(*words, "revision=second")
    assert model_config(second)["upstream"]["commit"] == "1" * 40
    name = "upstream.model.encoder.layers.0.attention.k_proj.weight"
    assert name in weights(first) and not torch.equal(weights(first)[name], weights(second)[name])


def test_upstream_options_reach_the_upstream(trained: Train, tmp_path: Path) -> None:
    file = tmp_path / "blocks.py"
    file.write_text(OWN_UPSTREAM)
    run = trained(f"upstream={file}", "upstream.parts=4")
    assert weights(run)["downstream.head.projector.weight"].shape[1] == 4
    assert model_config(run)["upstream"]["options"] == {"parts": 4}


def test_layer_norm_normalises_before_the_sum(trained: Train) -> None:
    run = trained("layer_norm=true")
    assert model_config(run)["layer_norm"] is True
    assert distance(run, trained()) > 1e-4


def test_layers_takes_one_layer_alone(trained: Train) -> None:
    run = trained("layers=0")
    assert results(run)["layers"] == 0 and results(run)["folds"][0]["layer_weights"] == [1.0]
    with pytest.raises(AssertionError, match="layers=7"):
        trained("layers=7")


def test_head_is_the_kind_of_head(trained: Train) -> None:
    run = trained("head=linear")
    assert "downstream.head.projector.weight" in weights(run)
    assert results(run)["head"] == model_config(run)["head"] == "linear"


def test_head_options_reach_the_head(trained: Train) -> None:
    run = trained("head.hidden_size=12", "head.kernel_size=3")
    assert weights(run)["downstream.head.projector.weight"].shape == (12, 240)
    assert weights(run)["downstream.head.convolution.weight"].shape == (12, 12, 3)


def test_store_is_where_hidden_states_are_kept(trained: Train, tmp_path: Path) -> None:
    trained(f"store={tmp_path / 'mine'}")
    assert sum(_entries(shard) for shard in (tmp_path / "mine").rglob("*.safetensors")) == 64


def _entries(shard: Path) -> int:
    with safe_open(shard, framework="pt") as tensors:
        return len(list(tensors.keys()))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_store_dtype_is_the_precision_of_what_is_kept(trained: Train, tmp_path: Path, dtype: str) -> None:
    trained(f"store={tmp_path}", f"store_dtype={dtype}")
    (shard,) = tmp_path.rglob("*.safetensors")
    assert {value.dtype for value in load_file(shard).values()} == {getattr(torch, dtype)}


def test_allow_lets_a_model_of_ones_own_code_predict(trained: Train, small_corpus: Path, tmp_path: Path) -> None:
    file = tmp_path / "blocks.py"
    file.write_text(OWN_UPSTREAM)
    run = trained(f"upstream={file}", "upstream.parts=4")
    sound = small_corpus.parent / rows_of(small_corpus)[0]["file"]
    assert undertone("predict", run, sound).fails_with("code from outside undertone", f"--allow {file}")
    outcome = undertone("predict", run, sound, "--allow", file, "--json")
    assert outcome.status == 0 and '"emotion"' in outcome.out, outcome.err
