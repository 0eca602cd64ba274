from __future__ import annotations

import json
import os
import pickle
import resource
import time

import pytest
import torch
from safetensors import safe_open

from undertone.upstream import load_upstream
from undertone.upstream.store import store as store_module
from undertone.upstream.store.shard import DTYPES, Shard, encode
from undertone.upstream.store.store import Store


@pytest.fixture(scope="module")
def fbank():
    return load_upstream("fbank")


def states(num_frames: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.randn(3, num_frames, 8, generator=torch.Generator().manual_seed(seed))


def test_round_trip_and_reopen(tmp_path, fbank) -> None:
    entries = {f"key{i}": states(4 + i, i) for i in range(5)}
    Store(tmp_path, fbank).add(entries.items())
    store = Store(tmp_path, fbank)
    assert len(store) == 5 and "key0" in store and "other" not in store
    for key, value in entries.items():
        assert store.get(key).dtype == torch.float16
        assert torch.equal(store.get(key), value.half())
    assert store.missing(["key1", "new", "key2", "new"]) == ["new"]
    with pytest.raises(KeyError):
        store.get("other")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_other_dtypes(tmp_path, fbank, dtype: str) -> None:
    store = Store(tmp_path, fbank, dtype=dtype)
    store.add([("a", states())])
    assert torch.equal(store.get("a"), states().to(getattr(torch, dtype)))


def test_means_are_float32(tmp_path, fbank) -> None:
    store = Store(tmp_path, fbank, "mean")
    store.add([("a", states().mean(1, keepdim=True))])
    assert torch.equal(store.get("a"), states().mean(1, keepdim=True))


def test_what_float16_cannot_hold_is_kept_as_bfloat16(tmp_path, fbank) -> None:
    large = states()
    large[1, 2, 3] = 65_600.0
    store = Store(tmp_path, fbank)
    store.add([("large", large), ("small", states())])
    assert store.get("large").dtype == torch.bfloat16 and torch.isfinite(store.get("large")).all()
    assert store.get("small").dtype == torch.float16


def test_entries_may_be_slices_of_a_batch(tmp_path, fbank) -> None:
    batch = torch.randn(2, 3, 6, 8)
    store = Store(tmp_path, fbank, dtype="float32")
    store.add([("a", batch[0, :, :4]), ("b", batch[1])])
    assert torch.equal(store.get("a"), batch[0, :, :4]) and torch.equal(store.get("b"), batch[1])


def test_shards_by_size_and_time(tmp_path, fbank, monkeypatch) -> None:
    monkeypatch.setattr(store_module, "SHARD_BYTES", 1000)
    store = Store(tmp_path, fbank)
    store.add((str(i), states(8)) for i in range(6))  # 384 bytes each
    assert len(list(store.folder.glob("*.safetensors"))) == 2
    monkeypatch.setattr(store_module, "SHARD_SECONDS", 0.0)
    store.add((f"later{i}", states(8)) for i in range(3))
    assert len(list(store.folder.glob("*.safetensors"))) == 5
    assert Store(tmp_path, fbank).missing([*map(str, range(6)), "later0"]) == []


def test_an_interruption_keeps_what_was_done(tmp_path, fbank) -> None:
    def entries():
        yield "done", states()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path, fbank).add(entries())
    assert Store(tmp_path, fbank).missing(["done", "not"]) == ["not"]


def test_a_draft_without_a_lock_is_ignored_and_removed_when_old(tmp_path, fbank) -> None:
    store = Store(tmp_path, fbank)
    store.add([("a", states())])
    for name, age in ((".shard.safetensors.aaaaaaaa.tmp", 2 * 86_400), (".shard.safetensors.bbbbbbbb.tmp", 60)):
        draft = store.folder / name
        draft.mkdir()
        (draft / "shard.safetensors").write_bytes(b"half written")
        os.utime(draft, (time.time() - age,) * 2)
    store = Store(tmp_path, fbank)
    assert len(store) == 1
    assert [path.name for path in store.folder.glob(".*")] == [".shard.safetensors.bbbbbbbb.tmp"]


def test_a_full_disk_leaves_nothing_half_written(tmp_path, fbank) -> None:
    store = Store(tmp_path, fbank)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="Cannot write .*: File too large. Make room and run again"):
            store.add([("a", states(100))])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in store.folder.iterdir()] == ["meta.json"]
    assert "a" not in store


def test_two_stores_see_each_others_shards(tmp_path, fbank) -> None:
    first, second = Store(tmp_path, fbank), Store(tmp_path, fbank)
    first.add([("a", states(seed=1))])
    second.add([("b", states(seed=2))])
    assert first.missing(["a", "b", "c"]) == second.missing(["a", "b", "c"]) == ["c"]
    assert torch.equal(first.get("b"), states(seed=2).half())


def test_a_worker_process_can_be_given_the_store(tmp_path, fbank) -> None:
    store = Store(tmp_path, fbank)
    store.add([("a", states())])
    store.get("a")
    assert torch.equal(pickle.loads(pickle.dumps(store)).get("a"), states().half())


def test_other_weights_settings_kind_or_dtype_have_another_folder(tmp_path, tiny) -> None:
    upstream = load_upstream(str(tiny("tiny-wav2vec2")))
    folders = [Store(tmp_path, upstream).folder, Store(tmp_path, upstream, "mean").folder]
    folders.append(Store(tmp_path, upstream, dtype="float32").folder)
    folders.append(Store(tmp_path, load_upstream("fbank")).folder)
    with torch.no_grad():
        upstream.model.encoder.layer_norm.weight[0] += 1e-6
    folders.append(Store(tmp_path, upstream).folder)
    assert len(set(folders)) == 5
    again = load_upstream(str(tiny("tiny-wav2vec2")))
    assert Store(tmp_path, again).folder == folders[0]


def test_meta_is_readable(tmp_path, tiny) -> None:
    upstream = load_upstream(str(tiny("tiny-wavlm")))
    meta = json.loads((Store(tmp_path, upstream).folder / "meta.json").read_text())
    assert meta["upstream"]["name"] == upstream.name and meta["fingerprint"] == upstream.fingerprint()
    assert (meta["kind"], meta["dtype"], meta["num_layers"], meta["hidden_size"]) == ("frames", "float16", 3, 32)
    assert meta["random_weights"] is True


def test_shards_are_plain_safetensors(tmp_path, fbank) -> None:
    store = Store(tmp_path, fbank)
    store.add([("a", states())])
    with safe_open(next(store.folder.glob("*.safetensors")), framework="pt") as tensors:
        assert list(tensors.keys()) == ["a"]


@pytest.mark.parametrize("arguments", [("median",), ("frames", "int4"), ("mixture",)])
def test_unknown_kind_or_dtype(tmp_path, fbank, arguments) -> None:
    with pytest.raises(ValueError, match="kind is one of frames, mean .* float16, bfloat16, float32, int8"):
        Store(tmp_path, fbank, *arguments)


def test_int8_survives_outlier_features(tmp_path, fbank) -> None:
    outliers = states(50)
    outliers[:, :, [2, 5]] *= 100
    outliers[0, :, 7] = 0
    store = Store(tmp_path, fbank, dtype="int8")
    store.add([("a", outliers)])
    back = Store(tmp_path, fbank, dtype="int8").get("a")
    assert back.dtype == torch.float32
    step = outliers.abs().amax(1, keepdim=True) / 127  # of each layer and feature
    assert ((back - outliers).abs() <= 0.5001 * step).all()
    assert (back - outliers).norm(dim=1).max() / 100 < 0.2 and torch.equal(back[0, :, 7], torch.zeros(50))
    (shard,) = store.folder.glob("*.safetensors")
    assert shard.stat().st_size < 0.5 * outliers.nbytes


def test_few_bytes_are_mapped_at_once(tmp_path, fbank, monkeypatch) -> None:
    monkeypatch.setattr(store_module, "SHARD_BYTES", 1)
    store = Store(tmp_path, fbank)
    store.add((str(i), states(seed=i)) for i in range(5))
    size = max(shard.stat().st_size for shard in store.folder.glob("*.safetensors"))
    for room, most in ((2 * size, 2), (5 * size, 5), (1, 1)):
        monkeypatch.setattr(store_module, "OPEN_BYTES", room)
        store = Store(tmp_path, fbank)
        for i in (0, 1, 2, 3, 4, 0, 3):
            assert torch.equal(store.get(str(i)), states(seed=i).half())
            assert len(store._open) <= most
        assert len(store._open) == most


@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_what_waits_for_its_shard_is_a_copy(dtype: str) -> None:
    """Thousands of means as the upstream's threads allocated them keep the memory between them from use."""
    for own in (torch.float32, DTYPES[dtype]):
        given = states().to(own)
        encoded = encode(given, dtype)[0]
        assert encoded.untyped_storage().data_ptr() != given.untyped_storage().data_ptr() and encoded.is_contiguous()


def test_read_by_shard_each_shard_is_opened_once(tmp_path, fbank, monkeypatch) -> None:
    """Reading in any order would open a shard, and parse its header, for nearly every entry of a large store."""
    monkeypatch.setattr(store_module, "OPEN_BYTES", 1)
    monkeypatch.setattr(store_module, "SHARD_BYTES", 5 * states(seed=0).half().nbytes)
    store = Store(tmp_path, fbank)
    store.add((str(i), states(seed=i)) for i in range(20))
    keys, opened = [str(7 * i % 20) for i in range(20)], []
    places = store.by_shard(keys)
    assert sorted(places) == list(range(20))
    monkeypatch.setattr(store_module, "Shard", lambda path: opened.append(path) or Shard(path))
    for place in places:
        assert torch.equal(store.get(keys[place]), states(seed=int(keys[place])).half())
    assert len(opened) == len(set(opened)) == 4


def test_one_line_says_that_states_of_another_version_are_computed_again(tmp_path, fbank, monkeypatch, caplog) -> None:
    for options in (fbank, load_upstream("logmel"), load_upstream("logmel", options={"num_mels": 40}), fbank):
        Store(tmp_path, options)
    assert not caplog.records
    monkeypatch.setattr(type(fbank), "VERSION", 2)
    old, new = sorted(folder.name for folder in tmp_path.iterdir()), Store(tmp_path, fbank).folder
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("The hidden states of fbank in ") and "are computed again" in said and "\n" not in said
    assert new.name not in old and any(name in said for name in old)
    Store(tmp_path, fbank)
    assert len(caplog.records) == 1
