"""What is fuzzed: each function gets bytes as a user's file would hold them, beside valid ones to start from."""

from __future__ import annotations

import importlib
import io
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import soundfile
import torch
import xxhash
from safetensors.torch import save

from undertone.tests.faults.rules import attempt

RATE = 16_000


def import_all() -> None:
    """Import what the targets import, so that no input's time is that of an import, and a fuzzer sees its branches."""
    for name in (
        "emodb",
        "ravdess",
        "crema_d",
        "iemocap",
        "own.folder",
        "own.table",
        "own.manifest_folder",
        "own.hf_dataset",
    ):
        importlib.import_module(f"undertone.corpora.{name}")
    for name in (
        "inference.predict",
        "training.config",
        "experiments.evaluate_model",
        "upstream.store.store",
        "upstream.hf.adapt",
    ):
        importlib.import_module(f"undertone.{name}")
    for name in ("datasets", "peft", "scipy.signal"):
        importlib.import_module(name)


@dataclass(frozen=True)
class Target:
    """A function over a file's bytes.

    Attributes:
        run: (an empty folder, the bytes) -> nothing; raises what the function raises.
        seeds: valid contents.
        words: what a mutation may write into them.
    """

    run: Callable[[Path, bytes], Any]
    seeds: Callable[[], list[bytes]]
    words: tuple[bytes, ...] = field(default=())


def sound(form: str = "WAV", subtype: str | None = None, channels: int = 1, samples: int = 400) -> bytes:
    """A short tone as a file of libsndfile's `form`."""
    wave = 0.3 * np.sin(np.arange(samples) / 5)
    file = io.BytesIO()
    soundfile.write(file, np.repeat(wave[:, None], channels, axis=1), RATE, format=form, subtype=subtype)
    return file.getvalue()


# ---- sound


def _audio(folder: Path, content: bytes) -> None:
    from undertone.audio.read import audio_info, read_audio

    path = folder / "a.wav"
    path.write_bytes(content)
    audio_info(path)
    read_audio(path, RATE)


def _sounds() -> list[bytes]:
    forms = [("WAV", None), ("WAV", "FLOAT"), ("WAV", "IMA_ADPCM"), ("AIFF", None), ("FLAC", None), ("OGG", "VORBIS")]
    forms += [("OGG", "OPUS"), ("W64", None), ("CAF", None), ("AU", None), ("WAVEX", None), ("RF64", None)]
    forms += [("MP3", None)]
    return [sound(form, subtype) for form, subtype in forms] + [sound(channels=3)]


# ---- corpora


def _rows(name: str, root: Path, **options: Any) -> None:
    """Everything that reads a corpus before its sound is decoded, and the manifest of what it says."""
    from undertone.corpora import load_corpus
    from undertone.corpora.manifest import Manifest

    corpus = load_corpus(name, options)
    manifest = Manifest.from_rows(corpus.name, [{**row, "path": str(row["path"])} for row in corpus.rows(root)])
    assert manifest.hash and list(manifest)


def _table(suffix: str) -> Callable[[Path, bytes], None]:
    def run(folder: Path, content: bytes) -> None:
        path = folder / f"table{suffix}"
        path.write_bytes(content)
        _rows(str(path), folder)

    return run


TABLE = (
    {"file": "a.wav", "speaker": "F1", "gender": "f", "emotion": "angry", "arousal": 0.5, "start": 0.1, "end": 1.5},
    {"file": "b c.wav", "speaker": "M2", "gender": "male", "emotion": "sad", "arousal": 1, "start": None, "end": None},
)
EXTRA = {"split": "dev", "session": 1, "text": 'so, "so"', "votes": "angry:3;sad:1", "series": "a.csv", "score": 3}


def _csvs() -> list[bytes]:
    rows = [row | EXTRA for row in TABLE]
    lines = [list(rows[0]), *(["" if value is None else str(value) for value in row.values()] for row in rows)]
    comma = "\n".join(",".join(f'"{cell}"'.replace('"so"', '""so""') for cell in line) for line in lines)
    return [comma.encode(), comma.replace(",", "\t").encode(), b"\xef\xbb\xbffile;emotion\na.wav;sad\n"]


def _jsonls() -> list[bytes]:
    rows = [row | EXTRA | {"votes": {"angry": 3, "sad": 1}} for row in TABLE]
    return [b"\n".join(json.dumps(row).encode() for row in rows), b'{"file": "a.wav", "emotion": "sad"}\n']


def _parquets() -> list[bytes]:
    import pyarrow
    from pyarrow import parquet

    file = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist([row | EXTRA for row in TABLE]), file)
    return [file.getvalue()]


def _manifest(folder: Path, content: bytes) -> None:
    (folder / "manifest.arrow").write_bytes(content)
    _rows(str(folder), folder)


@cache
def _manifests() -> list[bytes]:
    from undertone.corpora.manifest import Manifest

    rows = [
        {"id": "a", "path": "/a.wav", "corpus": "calls", "speaker": "1", "votes": {"sad": 2}, "extra": {"level": 3}},
        {"id": "b", "path": "/b.wav", "corpus": "calls", "speaker": "2", "start": 0.5, "arousal": 0.1},
    ]
    with TemporaryDirectory() as folder:
        return [Manifest.from_rows("calls", rows).save(folder).read_bytes()]


def _emodb(folder: Path, content: bytes) -> None:
    (folder / "03a01Wa.wav").touch()
    (folder / "erkennung.txt").write_bytes(content)
    _rows("emodb", folder)


def _iemocap(folder: Path, content: bytes) -> None:
    (folder / "Ses01F_impro01_M000.wav").touch()
    for kind in ("EmoEvaluation", "transcriptions"):
        (folder / kind).mkdir()
        (folder / kind / "Ses01F_impro01.txt").write_bytes(content)
    _rows("iemocap", folder, labels="all")


IEMOCAP = b"""% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n
[6.2901 - 8.2357]\tSes01F_impro01_M000\tneu\t[2.5000, 2.5000, 2.5000]
C-E2:\tNeutral;\t()
C-E4:\tNeutral; Anger;\t()
A-E3:\tval 3; act 2; dom  2;\t()
Ses01F_impro01_M000 [006.2901-008.2357]: Excuse me.
"""


def _crema_d(folder: Path, content: bytes) -> None:
    (folder / "1001_DFA_ANG_XX.wav").touch()
    (folder / "processedResults").mkdir()
    (folder / "processedResults" / "tabulatedVotes.csv").write_bytes(content)
    _rows("crema_d", folder, labels="perceived")


CREMA_D = b'"","A","D","F","H","N","S","fileName"\n100001,5,0,0,0,3,0,"1001_DFA_ANG_XX"\n200001,5,0,0,0,3,0,"x"\n'


def _file_names(folder: Path, content: bytes) -> None:
    """Names of sound files, a line each; whatever the file system takes."""
    names = [name for name in content.replace(b"/", b"").replace(b"\0", b"").split(b"\n")[:9] if name[:240].strip(b".")]
    for name in names:
        path = os.path.join(os.fsencode(folder), b"angry", name[:240])
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path + b".wav", "wb"):
            pass
    for corpus in (str(folder), "emodb", "ravdess", "crema_d", "iemocap"):
        try:
            _rows(corpus, folder)
        except ValueError as error:
            if "no file such as" not in str(error):
                raise


def _data_set(folder: Path, content: bytes) -> None:
    """A data set of `save_to_disk`, with one of its JSON files replaced."""
    saved = folder / "set"
    shutil.copytree(_saved_data_set(), saved)
    for name in ("state.json", "dataset_info.json"):
        original = (saved / name).read_bytes()
        (saved / name).write_bytes(content)
        try:
            _rows(f"hf:{saved}", folder / "sound")
        finally:
            (saved / name).write_bytes(original)


@cache
def _saved_data_set() -> Path:
    from datasets import Dataset

    folder = Path(_kept.name) / "data_set"
    Dataset.from_dict({"audio": ["a.wav", "b.wav"], "emotion": ["sad", "happy"]}).save_to_disk(str(folder))
    return folder


def _data_set_files() -> list[bytes]:
    return [(_saved_data_set() / name).read_bytes() for name in ("state.json", "dataset_info.json")]


# ---- settings


def _config_file(folder: Path, content: bytes) -> None:
    from undertone.training.settings import make_config, save_config

    path = folder / "settings.yaml"
    path.write_bytes(content)
    save_config(make_config({"corpus": "emodb"}, ["head.dropout=0.1"], path), folder / "config.json")


YAML = b"""learning_rate: 1e-3
seeds: [0, 1]
sweep: {learning_rate: [1e-3, 1e-4], head.hidden_size: [8, 16]}
tasks: [emotion, gender]
head_options: {hidden_size: 8}
task_weights: {emotion: 2}
num_folds: 3
"""


def _config_words(folder: Path, content: bytes) -> None:
    from undertone.corpora import load_corpus
    from undertone.corpora.own.labels import parse_map
    from undertone.experiments.evaluate_model import parse_labels
    from undertone.training.settings import corpus_options, make_config, save_config

    words = content.decode("utf-8", "surrogateescape").split("\n")
    for function in (parse_map, parse_labels, load_corpus):
        attempt(lambda function=function: function(words[0]))  # type: ignore[misc]
    attempt(lambda: corpus_options(words))
    save_config(make_config({"corpus": "emodb"}, words), folder / "config.json")


WORDS = b"learning_rate=3e-4\nseeds=3\nsweep.lr=1e-3,1e-4\nhead.dropout=0.1\ntasks=a,b\ncorpus.labels=x\nnum_folds=2"


# ---- models


_kept = TemporaryDirectory(prefix="undertone-faults-")  # of this process; removed when it ends


@cache
def model_folder() -> Path:
    """A saved model on fbank."""
    from undertone.downstream.config import UndertoneConfig
    from undertone.downstream.model import UndertoneModel
    from undertone.downstream.task import Task
    from undertone.upstream import load_upstream

    upstream = load_upstream("fbank")
    tasks = (Task("emotion", "classification", ("angry", "sad")), Task("arousal", "regression", ("arousal",)))
    config = UndertoneConfig(
        upstream=upstream.spec(),
        upstream_hash=upstream.weights_hash(),
        head="linear",
        head_options={"hidden_size": 2},
        tasks=[task.to_dict() for task in tasks],
    )
    folder = Path(_kept.name) / "model"
    UndertoneModel(config, upstream).save_pretrained(folder)
    return folder


@cache
def whole_model_folder() -> Path:
    """A saved model that holds the weights of a tiny wav2vec 2.0."""
    from undertone.downstream.config import UndertoneConfig
    from undertone.downstream.model import UndertoneModel
    from undertone.downstream.task import Task
    from undertone.upstream import load_upstream

    upstream = load_upstream(str(upstream_folder()))
    tasks = [Task("emotion", "classification", ("angry", "sad")).to_dict()]
    config = UndertoneConfig(upstream=upstream.spec(), head="linear", head_options={"hidden_size": 2}, tasks=tasks)
    folder = Path(_kept.name) / "whole_model"
    UndertoneModel(config, upstream).save_pretrained(folder)
    return folder


@cache
def upstream_folder() -> Path:
    """A tiny wav2vec 2.0 with random weights, as transformers saves it."""
    from undertone.upstream.hf.random_weights import save_random

    return save_random("tiny-wav2vec2", Path(_kept.name) / "upstream")


def replaced(source: Path, folder: Path, name: str, content: bytes) -> Path:
    """A copy of a model's folder with one file replaced; the others are links."""
    copy = folder / "copy"
    copy.mkdir()
    for path in source.iterdir():
        (copy / path.name).symlink_to(path)
    (copy / name).unlink(missing_ok=True)
    (copy / name).write_bytes(content)
    return copy


def load(folder: Path) -> None:
    """Load a model and predict with it."""
    from undertone.inference.predict import load_model

    load_model(folder, device="cpu").predict_wave(torch.zeros(RATE // 4), RATE)


def _model_config(folder: Path, content: bytes) -> None:
    source = whole_model_folder() if b'"hf"' in content else model_folder()
    load(replaced(source, folder, "config.json", content))


def _model_weights(folder: Path, content: bytes) -> None:
    load(replaced(model_folder(), folder, "model.safetensors", content))


def _upstream(name: str) -> Callable[[Path, bytes], None]:
    def run(folder: Path, content: bytes) -> None:
        from undertone.upstream import WaveBatch, load_upstream

        upstream = load_upstream(str(replaced(upstream_folder(), folder, name, content)))
        upstream(WaveBatch.collate([torch.zeros(upstream.sample_rate // 4)], upstream.sample_rate))

    return run


def _bytes_of(folder: Callable[[], Path], name: str) -> Callable[[], list[bytes]]:
    return lambda: [(folder() / name).read_bytes()]


# ---- the store


def _store_shard(folder: Path, content: bytes) -> None:
    """A shard whose bytes give its name and whose header names the store, so that what it holds is looked at."""
    from undertone.upstream.store.store import Store

    home = Store(folder, _fbank()).folder
    content = content.replace(b"0" * 64, home.name.encode())
    (home / f"{xxhash.xxh3_128_hexdigest(content)}.safetensors").write_bytes(content)
    (home / "meta.json").write_bytes(content)
    store = Store(folder, _fbank())
    for key in ("key0", "key1"):
        if not store.missing([key]):
            store.get(key).float().sum()


@cache
def _fbank() -> Any:
    from undertone.upstream import load_upstream

    return load_upstream("fbank")


def _shards() -> list[bytes]:
    tensors = {f"key{number}": torch.zeros(1, 4, 240, dtype=torch.float16) for number in range(2)}
    return [save(tensors, {"store": "0" * 64})]


HUGE = b"\xff\xff\xff\xff"
DEEP = b"[" * 3000
DIGITS = b"9" * 5000
JSON_WORDS = (
    b"null",
    b"[]",
    b"{}",
    b"0",
    b"-1",
    b"99999999",
    b'"os:system"',
    b'"../../evil.py"',
    b"true",
    DEEP,
    DIGITS,
)
YAML_WORDS = (
    DEEP,
    b".nan",
    b"1e999",
    b"2020-99-99",
    b"&a [*a]",
    b"? ",
    b"1: 2\n",
    b"null",
    b"!!python/name:os.system ",
)
EMODB = b"Nr\tSatz\terkannt\tnatuerlich\n1\t03a01Wa.wav\t90,5\t88\n"
NAMES = b"03a01Wa\n03-01-06-01-02-01-12\n1001_DFA_ANG_XX\nSes01F_impro01_M000\n\xe9 \xf0\x9f\x98\x80"
MODELS = (model_folder, whole_model_folder)

TARGETS = {
    "audio": Target(_audio, _sounds, (b"data", b"fmt ", HUGE, b"\x00" * 4, b"\xff\x7f")),
    "table_csv": Target(_table(".csv"), _csvs, (b'"', b"\n", b",", b"nan", b"1e999", b"\x00", b"A" * 200_000, DIGITS)),
    "table_jsonl": Target(_table(".jsonl"), _jsonls, (*JSON_WORDS, b"1e999", b"NaN", b'"\\ud800"')),
    "table_parquet": Target(_table(".parquet"), _parquets, (HUGE, b"\x00" * 8)),
    "manifest": Target(_manifest, _manifests, (HUGE, b"\x00" * 8, b"null", b"[1]")),
    "emodb": Target(_emodb, lambda: [EMODB], (b"nan", b"\t", b"1e999")),
    "iemocap": Target(_iemocap, lambda: [IEMOCAP], (b"[", b"1.2.3", b"Ses05", b"\t", b"\n", b"xxx", b"9" * 400)),
    "crema_d": Target(_crema_d, lambda: [CREMA_D], (b'"', b"\x00", b"-1", DIGITS, b"\n", b"A" * 200_000)),
    "file_names": Target(
        _file_names, lambda: [NAMES], (b"\xff", b"99", b" ", b"\xf0\x9f\x98\x80", b"\x1b[31m", b"<b>")
    ),
    "data_set": Target(_data_set, _data_set_files, (*JSON_WORDS, b"../")),
    "config_file": Target(_config_file, lambda: [YAML], YAML_WORDS),
    "config_words": Target(_config_words, lambda: [WORDS], (*YAML_WORDS, b"seeds=999999999999", b"=", b"\x00")),
    "model_config": Target(_model_config, lambda: [(f() / "config.json").read_bytes() for f in MODELS], JSON_WORDS),
    "model_weights": Target(_model_weights, _bytes_of(model_folder, "model.safetensors"), (HUGE * 2, b"F64", b"[9,9]")),
    "upstream_config": Target(_upstream("config.json"), _bytes_of(upstream_folder, "config.json"), JSON_WORDS),
    "upstream_preprocessor": Target(
        _upstream("preprocessor_config.json"), _bytes_of(upstream_folder, "preprocessor_config.json"), JSON_WORDS
    ),
    "store_shard": Target(_store_shard, _shards, (HUGE * 2, b"F64", b"I8", b"[9,9]", b"scale of ", b"null")),
}
JSON_TARGETS = ("model_config", "upstream_config", "upstream_preprocessor", "table_jsonl", "data_set", "config_file")
"""Those whose content is JSON, or may be: documents of the right form and with wrong values are tried as well."""
