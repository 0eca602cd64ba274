"""`undertone extract` and `undertone store`; and a training run over a store that was damaged."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path

import pytest
from safetensors import safe_open

from undertone.tests.cli.commands import TINY, Outcome, finish, start, undertone
from undertone.tests.cli.runs import results, rows_of, write_table
from undertone.tests.cli.test_processes import LAUNCH
from undertone.upstream.store import store as store_module

LAST_LINE = r"extracted (\d+) clips, ([\d.]+) audio seconds in [\d.]+ s: [\d.]+ audio seconds per second"


@pytest.fixture
def store(small_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of the small corpus in several shards."""
    monkeypatch.setattr(store_module, "SHARD_BYTES", 200_000)
    outcome = undertone("extract", small_corpus, "--store", tmp_path / "store")
    assert outcome.status == 0, outcome.err
    assert len(shards(tmp_path / "store")) > 3
    return tmp_path / "store"


def shards(store: Path) -> list[Path]:
    return sorted(store.rglob("*.safetensors"))


def train(small_corpus: Path, store: Path, out: Path) -> Outcome:
    outcome = undertone("train", small_corpus, "--store", store, "--out", out, *TINY)
    assert outcome.status == 0, outcome.err
    return outcome


def flip_a_bit(shard: Path) -> None:
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)


def test_extract_says_what_it_needs_and_how_fast_it_was(small_corpus: Path, tmp_path: Path) -> None:
    words = ("extract", small_corpus, "--store", tmp_path)
    outcome = undertone(*words)
    assert re.search(
        r"frames of 64 clips need 4\.\d MB: .* GB are free, the budget is .* GB \(store_budget=20GB sets it\)",
        outcome.err,
    )
    last = re.fullmatch(LAST_LINE, outcome.out.splitlines()[-1])
    assert last is not None and last[1] == "64" and float(last[2]) > 10
    assert undertone(*words).out.startswith("extracted 0 clips, 0.0 audio seconds")
    assert undertone(*words, "--kind", "mean").out.startswith("extracted 64 clips")
    said = train(small_corpus, tmp_path, tmp_path / "run").err
    assert "extracted" not in said and "need" not in said


def test_the_bytes_that_are_needed_are_those_that_are_written(small_corpus: Path, tmp_path: Path) -> None:
    for dtype in ("float16", "int8", "float32"):
        said = undertone("extract", small_corpus, "--store", tmp_path / dtype, "--dtype", dtype).err
        value, unit = re.search(r"need ([\d.]+) (kB|MB)", said).groups()
        need = float(value) * {"kB": 1e3, "MB": 1e6}[unit]
        assert sum(shard.stat().st_size for shard in shards(tmp_path / dtype)) == pytest.approx(need, rel=0.05)


def test_extract_over_the_budget_is_a_sentence(small_corpus: Path, tmp_path: Path) -> None:
    outcome = undertone("extract", small_corpus, "--store", tmp_path, "--store-budget", "10kB")
    assert outcome.fails_with("the budget is 10.0 kB. Give a larger --store-budget", "--kind mean", "needs 61.4 kB")
    assert not shards(tmp_path)


def test_list_shows_every_store(small_corpus: Path, store: Path) -> None:
    undertone("extract", small_corpus, "--store", store, "--kind", "mean")
    out = undertone("store", "list", "--store", store).out
    for word in ("fbank", "frames", "float16", "mean", "float32", " 64 ", time.strftime("%Y-%m-%d")):
        assert word in out
    assert out.count("fbank") == 2


def test_verify_names_the_damaged_shard_and_a_training_run_makes_only_it_anew(
    small_corpus: Path, store: Path, tmp_path: Path
) -> None:
    whole = undertone("store", "verify", "--store", store)
    assert (whole.status, whole.out) == (0, f"All {len(shards(store))} shards are intact.\n")
    train(small_corpus, store, tmp_path / "before")
    before = {shard: shard.stat().st_ino for shard in shards(store)}
    damaged = shards(store)[1]
    with safe_open(damaged, framework="pt") as tensors:
        lost = len(list(tensors.keys()))
    flip_a_bit(damaged)
    outcome = undertone("store", "verify", "--store", store)
    assert outcome.status == 1 and f"{damaged}: its bytes are not those that were written" in outcome.out
    assert f"1 of {len(before)} shards are damaged; the next run" in outcome.out

    said = train(small_corpus, store, tmp_path / "after").err
    assert f"extracted {lost} clips" in said
    assert all(shard.stat().st_ino == inode for shard, inode in before.items() if shard != damaged)
    assert undertone("store", "verify", "--store", store).status == 0
    assert results(tmp_path / "after")["pooled"] == results(tmp_path / "before")["pooled"]


def test_two_swapped_shards_are_made_anew_by_a_training_run(small_corpus: Path, store: Path, tmp_path: Path) -> None:
    first, second, *others = shards(store)
    first.rename(store / "aside")
    second.rename(first)
    (store / "aside").rename(second)
    said = train(small_corpus, store, tmp_path / "run").err
    assert "extracted" in said and "extracted 64" not in said
    assert undertone("store", "verify", "--store", store).status == 0 and set(others) < set(shards(store))


def test_prune_removes_by_name_and_by_age(small_corpus: Path, store: Path) -> None:
    undertone("extract", small_corpus, "--store", store, "--kind", "mean")
    frames, mean = sorted(
        (path.parent for path in store.glob("*/meta.json")), key=lambda path: -len(list(path.iterdir()))
    )
    assert "0 stores removed, 0.0 B freed" in undertone("store", "prune", "--store", store).out
    assert undertone("store", "prune", "nothing", "--store", store).fails_with("'nothing' is the beginning of 0 stores")
    outcome = undertone("store", "prune", mean.name[:12], "--store", store)
    assert f"removed {mean.name[:12]} fbank mean float32" in outcome.out and not mean.exists() and frames.exists()
    os.utime(frames / "meta.json", (time.time() - 40 * 86_400,) * 2)
    assert "0 stores removed" in undertone("store", "prune", "--days", "50", "--store", store).out
    assert "1 stores removed" in undertone("store", "prune", "--store", store).out and not frames.exists()


def test_a_store_of_another_version_is_said_and_pruned(store: Path) -> None:
    meta = next(store.glob("*/meta.json"))
    meta.write_text(meta.read_text().replace('"format": 2', '"format": 1'))
    assert "written by another version of undertone" in undertone("store", "verify", "--store", store).out
    assert "1 stores removed" in undertone("store", "prune", "--store", store).out


def test_a_second_run_notices_a_changed_file(small_corpus: Path, tmp_path: Path) -> None:
    rows = rows_of(small_corpus)
    for row in rows:
        copy = shutil.copy(small_corpus.parent / row["file"], tmp_path / f"{len(list(tmp_path.iterdir()))}.wav")
        row["file"] = str(copy)
    corpus = write_table(tmp_path / "table.csv", rows)
    words = ("extract", corpus, "--store", tmp_path / "store")
    assert undertone(*words).out.startswith("extracted 64 clips")
    train(corpus, tmp_path / "store", tmp_path / "run")
    changed = Path(rows[0]["file"])
    changed.write_bytes(changed.read_bytes()[:-2] + b"\x11\x22")  # as long as before
    assert undertone(*words).out.startswith("extracted 1 clips")
    outcome = undertone("train", corpus, "--store", tmp_path / "store", "--out", tmp_path / "run", *TINY)
    assert outcome.fails_with("1 of 64 files hold other audio than when this manifest was made", changed.name)


@pytest.mark.slow
def test_two_processes_share_an_extraction(small_corpus: Path, tmp_path: Path) -> None:
    outcome = finish(start("extract", small_corpus, "--store", tmp_path, "--device", "cpu", command=LAUNCH))
    assert outcome.status == 0, outcome.err
    last = re.fullmatch(LAST_LINE, outcome.out.splitlines()[-1])
    assert last is not None and last[1] == "64" and outcome.out.count("extracted") == 1
    counts = []
    for shard in shards(tmp_path):
        with safe_open(shard, framework="pt") as tensors:
            counts.append(len(list(tensors.keys())))
    assert counts == [32, 32]
