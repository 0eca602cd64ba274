"""Where a program runs is not always kind: no leave to write, no Hub, no GPU, too little memory, too many files."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from undertone.corpora import load_corpus
from undertone.corpora.prepare import prepare
from undertone.inference.predict import load_model
from undertone.tests.cli.commands import COMMAND, TINY, Outcome, undertone
from undertone.tests.faults.conftest import write_sound
from undertone.tests.faults.rules import attempt
from undertone.tests.faults.targets import model_folder, sound, upstream_folder, whole_model_folder
from undertone.upstream import HiddenStates, WaveBatch, load_upstream
from undertone.upstream.store.extract import _Job, extract
from undertone.upstream.store.store import Store

PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2


def obey_permissions() -> None:
    """Of a child process about to start: root too is then bound by the bits of files and folders."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        for power in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
            libc.prctl(PR_CAPBSET_DROP, power, 0, 0, 0)


def run(*words: object, **environment: str | None) -> Outcome:
    """`undertone WORDS...` as a process that is bound by permissions; a value of None unsets a variable."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    clean |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_XET": "1", "CUDA_VISIBLE_DEVICES": ""}
    changed = {name: value for name, value in (clean | environment).items() if value is not None}
    done = subprocess.run(
        [*COMMAND, *map(str, words)],
        env=changed, capture_output=True, text=True, timeout=240, check=False, preexec_fn=obey_permissions,
    )  # fmt: skip
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], Path]]:
    """`closed(folder)`: take the leave to write from a folder and all in it, until the tests end."""
    probe = tmp_path_factory.mktemp("probe")
    probe.chmod(0o500)
    code = f"open({str(probe / 'x')!r}, 'w')"
    tried = subprocess.run([sys.executable, "-c", code], preexec_fn=obey_permissions, capture_output=True, check=False)
    if tried.returncode == 0:
        pytest.skip("this user may write everywhere and cannot give that up")
    folders: list[Path] = []

    def close(folder: Path) -> Path:
        for path in [*folder.rglob("*"), folder]:
            path.chmod(path.stat().st_mode & ~0o222)
        folders.append(folder)
        return folder

    yield close
    for folder in folders:
        for path in [folder, *folder.rglob("*")]:
            path.chmod(path.stat().st_mode | stat.S_IWUSR)


# ---- no leave to write, or to read


def new_folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.slow
def test_a_read_only_corpus_and_an_unwritable_hf_home(
    small_corpus: Path, closed: Callable[[Path], Path], tmp_path: Path
) -> None:
    """The whole way beside data that cannot be written to, with a Hugging Face home that cannot either."""
    home = closed(new_folder(tmp_path / "hf"))
    data = closed(Path(shutil.copytree(small_corpus.parent, tmp_path / "data")))
    words = ("--out", tmp_path / "run", f"store={tmp_path / 'store'}", *TINY, "max_epochs=1")
    before = sorted(tmp_path.glob("data/**/*"))
    outcome = run("train", data / small_corpus.name, *words, HF_HOME=str(home / "deeper"))
    assert outcome.status == 0, outcome.err
    assert sorted(tmp_path.glob("data/**/*")) == before and not list(home.iterdir())


def test_a_manifest_where_nobody_may_write(small_corpus: Path, closed: Callable[[Path], Path], tmp_path: Path) -> None:
    outcome = run("prepare", small_corpus, "--out", closed(new_folder(tmp_path / "closed")) / "manifest")
    assert outcome.fails_with("Permission denied", str(tmp_path / "closed")), outcome.err


@pytest.mark.slow
def test_a_run_or_a_store_where_nobody_may_write(
    small_corpus: Path, closed: Callable[[Path], Path], tmp_path: Path
) -> None:
    folder = closed(new_folder(tmp_path / "closed"))
    words = ("crossval", small_corpus, *TINY)
    store = run(*words, "--out", tmp_path / "run", f"store={folder / 'store'}")
    assert store.fails_with(str(folder)), store.err
    out = run(*words, "--out", folder / "run", f"store={tmp_path / 'store'}")
    assert out.fails_with(str(folder), "--out"), out.err
    read = run("crossval", small_corpus, *TINY, "--out", tmp_path / "run", f"store={tmp_path / 'store'}")
    assert read.status == 0, read.err
    assert run("report", closed(tmp_path / "run")).fails_with("Permission denied")


def test_a_folder_that_cannot_be_read_is_no_empty_one(closed: Callable[[Path], Path], tmp_path: Path) -> None:
    write_sound(tmp_path / "corpus" / "happy" / "1_a.wav", 300)
    write_sound(tmp_path / "corpus" / "sad" / "secret" / "1_b.wav", 200)
    secret = tmp_path / "corpus" / "sad" / "secret"
    secret.chmod(0)
    try:
        outcome = run("prepare", tmp_path / "corpus", "--out", tmp_path / "out")
    finally:
        secret.chmod(0o700)
    assert outcome.fails_with("Cannot read the folder", str(secret)), outcome.err


# ---- the Hub


@pytest.fixture(scope="module")
def silent_hub() -> Iterator[str]:
    """The address of a server that accepts connections and never answers."""
    server, held = socket.create_server(("127.0.0.1", 0)), []

    def accept() -> None:
        while True:
            try:
                held.append(server.accept())
            except OSError:
                return

    threading.Thread(target=accept, daemon=True).start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}"
    server.close()
    for connection, _ in held:
        connection.close()


def ask(silent_hub: str, tmp_path: Path, *words: object) -> tuple[Outcome, float]:
    """Give a command a Hub that hangs and one second of patience; how it ended, and after how many seconds."""
    began = time.monotonic()
    outcome = run(
        *words,
        HF_HUB_OFFLINE=None,
        HF_ENDPOINT=silent_hub,
        HF_HOME=str(tmp_path / "hf"),
        HF_TOKEN="hf_x",
        HF_HUB_ETAG_TIMEOUT="1",
        HF_HUB_DOWNLOAD_TIMEOUT="1",
        NO_PROXY="127.0.0.1",
    )
    return outcome, time.monotonic() - began


@pytest.mark.slow
def test_a_hub_that_hangs(silent_hub: str, tmp_path: Path) -> None:
    outcome, seconds = ask(silent_hub, tmp_path, "predict", "me/model", write_sound(tmp_path / "a.wav", 200))
    assert outcome.fails_with("Cannot reach the Hub at", silent_hub) and seconds < 60, outcome.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["crossval", "{corpus}", "--upstream", "me/model", "--out", "{out}"], "Cannot read config.json of upstream"),
        (["prepare", "hf:me/data", "--out", "{out}"], "Cannot load the dataset 'me/data'"),
        (["push", "{model}", "me/model"], "Cannot reach the Hub at"),
    ],
)
def test_other_commands_and_a_hub_that_hangs(
    words: list[str], sentence: str, silent_hub: str, small_corpus: Path, tmp_path: Path
) -> None:
    places = {"corpus": small_corpus, "out": tmp_path / "out", "model": model_folder()}
    outcome, seconds = ask(silent_hub, tmp_path, *(word.format(**places) for word in words))
    assert outcome.fails_with(sentence) and seconds < 150, outcome.err


def fill_cache(home: Path) -> None:
    """A Hub's cache as its client lays it out: a model `me/model` and an upstream `me/upstream`."""
    for name, source in (("model", model_folder()), ("upstream", upstream_folder())):
        repository = home / "hub" / f"models--me--{name}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text("0" * 40)
        shutil.copytree(source, repository / "snapshots" / ("0" * 40))


@pytest.mark.slow
def test_offline_with_a_filled_cache_that_cannot_be_written(closed: Callable[[Path], Path], tmp_path: Path) -> None:
    fill_cache(tmp_path / "hf")
    home = str(closed(tmp_path / "hf"))
    outcome = run("predict", "me/model", write_sound(tmp_path / "a.wav", 200), "--json", HF_HOME=home)
    assert outcome.status == 0 and json.loads(outcome.out)[0]["emotion"], outcome.err


@pytest.mark.slow
def test_training_offline_with_a_filled_cache(
    small_corpus: Path, closed: Callable[[Path], Path], tmp_path: Path
) -> None:
    fill_cache(tmp_path / "hf")
    home = str(closed(tmp_path / "hf"))
    words = ("train", small_corpus, "--upstream", "me/upstream", "--out", tmp_path / "run", *TINY, "head=linear")
    outcome = run(*words, f"store={tmp_path / 'store'}", HF_HOME=home)
    assert outcome.status == 0, outcome.err


@pytest.mark.slow
def test_offline_with_an_empty_cache(tmp_path: Path) -> None:
    outcome = run("predict", "me/model", write_sound(tmp_path / "a.wav", 200), HF_HOME=str(tmp_path / "hf"))
    assert outcome.fails_with("HF_HUB_OFFLINE is set", "it is not in the cache"), outcome.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["crossval", "{corpus}", "--upstream", "me/upstream", "--out", "{out}"],
            "Cannot read config.json of upstream",
        ),
        (["prepare", "hf:me/data", "--out", "{out}"], "Cannot load the dataset 'me/data'"),
    ],
)
def test_other_commands_offline_with_an_empty_cache(
    words: list[str], sentence: str, small_corpus: Path, tmp_path: Path
) -> None:
    places = {"corpus": small_corpus, "out": tmp_path / "out"}
    outcome = run(*(word.format(**places) for word in words), HF_HOME=str(tmp_path / "hf"))
    assert outcome.fails_with(sentence), outcome.err


# ---- a GPU


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    ("device", "sentence"),
    [("cuda", "torch sees 0 GPUs"), ("cuda:1", "torch sees 0 GPUs"), ("gpu", "is not a torch device")],
)
def test_a_gpu_that_is_not_there(device: str, sentence: str) -> None:
    assert sentence in (attempt(lambda: load_model(model_folder(), device=device)) or "")


class Small(torch.nn.Module):
    """Lets an upstream take no more than `limit` samples at once, padding included; then it says what torch says."""

    def __init__(self, upstream: Any, limit: int) -> None:
        super().__init__()
        self.limit, self.sizes = limit, []
        self.forward_of = upstream.forward
        upstream.forward = self.forward

    def __deepcopy__(self, memo: dict[int, Any]) -> Small:
        """One memory for an upstream and its twins."""
        return self

    def forward(self, batch: WaveBatch) -> HiddenStates:
        self.sizes.append(tuple(batch.samples.shape))
        if batch.samples.numel() > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        hidden: HiddenStates = self.forward_of(batch)
        return hidden


def clips(small_corpus: Path) -> list[Any]:
    """Utterances of the small corpus."""
    return list(prepare(load_corpus(str(small_corpus)), None).manifest)[:12]


def test_extraction_goes_by_halves_where_the_memory_is_small(small_corpus: Path, tmp_path: Path) -> None:
    upstream, found = load_upstream(str(upstream_folder())), clips(small_corpus)
    longest = max(round(clip.duration * 16_000) for clip in found)
    whole, halved = Store(tmp_path / "a", upstream, "mean"), Store(tmp_path / "b", upstream, "mean")
    extract(upstream, found, whole, device="cpu")
    memory = Small(upstream, 3 * longest)
    job = _Job(upstream, torch.device("cpu"), halved, None, None, 0.0)
    halved.add(job.states([sorted(found, key=lambda clip: -clip.duration)]))
    assert job.computed == len({clip.audio_hash for clip in found}) and len(memory.sizes) > 4
    for clip in found:
        torch.testing.assert_close(halved.get(clip.audio_hash), whole.get(clip.audio_hash), atol=1e-5, rtol=0)


def test_one_clip_that_does_not_fit_is_a_sentence(small_corpus: Path, tmp_path: Path) -> None:
    upstream, found = load_upstream(str(upstream_folder())), clips(small_corpus)
    Small(upstream, 4000)
    sentence = attempt(lambda: extract(upstream, found, Store(tmp_path, upstream, "mean"), device="cpu"))
    assert sentence is not None and "The memory does not hold" in sentence and ".wav (" in sentence
    assert "CUDA out of memory. Tried to allocate 20.00 MiB." in sentence and "device=cpu" in sentence


def test_prediction_goes_by_halves(tmp_path: Path) -> None:
    files = [write_sound(tmp_path / f"{number}.wav", 200 + 40 * number, 0.2 + 0.05 * number) for number in range(7)]
    predictor = load_model(whole_model_folder(), device="cpu")
    expected = predictor.predict(files)
    memory = Small(predictor.model.upstream, 16_000)
    found = predictor.predict(files, batch_seconds=60.0)
    assert memory.sizes[0][0] == 7 and len(memory.sizes) > 3
    for one, other in zip(found, expected, strict=True):
        assert one["emotion"]["scores"] == pytest.approx(other["emotion"]["scores"], abs=1e-5)
    memory.limit = 100
    assert all("The memory does not hold 0." in row["error"] for row in predictor.predict(files))


GREEDY = """
import torch
from undertone.downstream.heads.attention import AttentionHead

class Greedy(AttentionHead):
    def forward(self, streams):
        if self.training:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return super().forward(streams)
"""


def test_a_training_whose_smallest_micro_batch_does_not_fit(small_corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "greedy.py").write_text(GREEDY)
    words = ("--head", tmp_path / "greedy.py", "--out", tmp_path / "run", f"store={tmp_path / 'store'}")
    outcome = undertone("train", small_corpus, *words, *TINY)
    assert outcome.fails_with("The memory does not hold a micro-batch of 1 in update 0: CUDA out of"), outcome.err


# ---- many files


@pytest.mark.slow
def test_many_files_in_two_folders(tmp_path: Path) -> None:
    """Listed, checked and written as a manifest in a process of its own; the files are links to a few sounds."""
    sources = []
    for number in range(50):
        sources.append(tmp_path / f"{number}.wav")
        sources[-1].write_bytes(sound(samples=1600 + number))
    for label in ("happy", "sad"):
        (tmp_path / "corpus" / label).mkdir(parents=True)
        for number in range(50_000):
            os.link(sources[number % 50], tmp_path / "corpus" / label / f"{number % 20}_{number}.wav")
    code = """
import json, sys, time
from pathlib import Path
from undertone.corpora import load_corpus
from undertone.corpora.manifest import Manifest
from undertone.corpora.prepare import prepare
import datasets, scipy.signal, soundfile
corpus = load_corpus(sys.argv[1], {"speaker": r"(\\d+)_"})
from undertone.tests.faults.bounded import peak_mb
before, began = peak_mb(), time.monotonic()
rows = list(corpus.rows(Path(sys.argv[1])))
listed = time.monotonic() - began
manifest = prepare(corpus, None).manifest
manifest.save(sys.argv[2])
again = Manifest.load(sys.argv[2])
assert len(rows) == len(again) and again.hash == manifest.hash and len(corpus.folds(again)) > 1
took = time.monotonic() - began
print(json.dumps({"files": len(again), "listed_s": listed, "all_s": took, "grown_mb": peak_mb() - before}))
"""
    words = [sys.executable, "-c", code, tmp_path / "corpus", tmp_path / "manifest"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    print(found)
    assert found["files"] == 100_000 and found["all_s"] < 600 and found["grown_mb"] < 900


def test_a_pipe_among_the_sounds_is_not_waited_for(tmp_path: Path) -> None:
    write_sound(tmp_path / "corpus" / "sad" / "a.wav", 200)
    os.mkfifo(tmp_path / "corpus" / "sad" / "b.wav")
    prepared = prepare(load_corpus(str(tmp_path / "corpus")), None)
    ((path, reason),) = prepared.broken
    assert path.endswith("b.wav") and reason == "this is not a regular file."
