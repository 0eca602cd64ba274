"""Hidden states on disk: what a frozen upstream says of an utterance is computed once."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from safetensors import SafetensorError
from torch import Tensor

from undertone.audio.video import content_key, find_video
from undertone.common.files import read_json, remove_drafts, write_json
from undertone.upstream.base import Upstream
from undertone.upstream.store.shard import DTYPES, SUFFIX, Shard, encode, find_damage, write_shard
from undertone.upstream.types import HiddenStates


class Clip(Protocol):
    """A stretch of an audio file, such as an utterance of a manifest."""

    @property
    def audio_hash(self) -> str:
        """Of its content: equal audio has equal hashes."""

    @property
    def path(self) -> str | Path:
        """The file."""

    @property
    def start(self) -> float | None:
        """Seconds into the file, or None for its beginning."""

    @property
    def end(self) -> float | None:
        """Seconds into the file, or None for its end."""

    @property
    def duration(self) -> float:
        """Seconds."""

    @property
    def video(self) -> str | None:
        """The file with its pictures, or None: the audio file, if that is a video."""

    @property
    def boxes(self) -> str | None:
        """A table of the faces in them, or None."""


Kind = Literal["frames", "mean"]
FORMAT = 2  # of the shards; another one is another folder
META = "meta.json"  # of each store; its time of change is when the store was last used
SHARD_BYTES = 32 * 2**20
SHARD_SECONDS = 30.0  # a killed extraction loses no more than this
_OPENING = threading.Lock()  # folds in threads read from one store
OPEN_BYTES = 2**30  # of shards mapped at once, which bounds what a process holds of a large store

logger = logging.getLogger(__name__)


class Store:
    """The hidden states of one upstream with fixed settings, in a folder of its own under `root`.

    The folder is named by a hash of the upstream's fingerprint and the settings, so that other weights, settings or
    versions never meet. Shards are safetensors files, written beside and renamed; their headers are the only index, so
    that none can disagree with them. A shard is checked against its hash before the first entry is read in a process;
    a damaged one is removed by `missing`, so that its entries, and only they, are computed again. Several processes
    may add to one store at once.

    Args:
        root: folder of all stores.
        upstream: whose hidden states these are.
        kind: `frames`, (L, T, D) an utterance; or `mean`, (L, 1, D) over its frames, always float32.
        dtype: of stored frames; an utterance that float16 cannot hold is kept as bfloat16, int8 has a scale for each
            layer and feature of an utterance.
        precision: of the upstream's own arithmetic: `no`, autocast to `bf16` or `fp16`, or `int8` of linear layers.

    Raises:
        ValueError: unknown kind or dtype.
        OSError: the folder cannot be made.
    """

    def __init__(
        self,
        root: Path,
        upstream: Upstream,
        kind: Kind = "frames",
        dtype: str = "float16",
        precision: str = "no",
    ) -> None:
        if kind not in get_args(Kind) or dtype not in DTYPES:
            raise ValueError(
                f"A store's kind is one of {', '.join(get_args(Kind))} and its dtype one of {', '.join(DTYPES)}; "
                f"got {kind!r} and {dtype!r}."
            )
        self.kind, self.dtype = kind, "float32" if kind == "mean" else dtype
        self.precision, self.sees = precision, upstream.sees
        settings = {"format": FORMAT, "fingerprint": upstream.fingerprint(), "kind": self.kind, "dtype": self.dtype}
        if precision != "no":  # states of the times when a CPU computed its convolutions otherwise lie in other folders
            convolutions = "float32 on a CPU" if precision == "int8" else "products on a CPU"
            settings |= {"precision": precision, "convolutions": convolutions}
        self.folder = Path(root) / hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        self._shards: dict[str, Path] = {}  # key -> shard
        self._known: set[Path] = set()
        self._checked: set[Path] = set()  # read whole in this process and found as written
        self._open: dict[Path, Shard] = {}  # the last ones used, the oldest first
        if not (self.folder / META).is_file():
            about = settings | _describe(upstream)
            self._say_if_outdated(about)
            write_json(self.folder / META, about)
        with suppress(PermissionError):  # a store shared by others, for reading only
            os.utime(self.folder / META)
        remove_drafts(self.folder)
        self._scan()

    def key(self, clip: Clip) -> str:
        """What a clip is known by: its audio; of an upstream that sees, also its video and where it looks there.

        Raises:
            AudioError: the video is gone.
        """
        if not self.sees:
            return clip.audio_hash
        file = find_video(clip.path, clip.video)
        seen = None if file is None else [content_key(file), clip.boxes and content_key(clip.boxes), clip.start]
        return hashlib.sha256(json.dumps([clip.audio_hash, seen]).encode()).hexdigest()

    def __contains__(self, key: str) -> bool:
        return key in self._shards

    def __len__(self) -> int:
        return len(self._shards)

    def __getstate__(self) -> dict[str, Any]:
        """Without the open shards, so that a worker process can be given the store."""
        return self.__dict__ | {"_open": {}}

    def get(self, key: str) -> Tensor:
        """The states of an utterance, as `kind` says, in the stored dtype; those stored as int8 in float32.

        Raises:
            KeyError: no such entry.
            ValueError: its shard is damaged or gone.
        """
        path = self._shards[key]
        with _OPENING:
            if path not in self._open:
                if path not in self._checked and not self._is_whole(path):
                    raise ValueError(f"{path} is damaged or gone. Run again: only its entries are computed again.")
                shard = Shard(path)
                while self._open and shard.nbytes + sum(one.nbytes for one in self._open.values()) > OPEN_BYTES:
                    del self._open[next(iter(self._open))]
                self._open[path] = shard
            shard = self._open[path] = self._open.pop(path)  # now the last one used
        return shard.get(key)

    def by_shard(self, keys: Sequence[str]) -> list[int]:
        """Positions in `keys`, those of a shard one after the other: read so, each is opened once."""
        return sorted(range(len(keys)), key=lambda place: str(self._shards[keys[place]]))

    def missing(self, keys: Iterable[str]) -> list[str]:
        """The distinct `keys` that are not stored whole, in order; entries that another process has added count.

        Shards of these keys that this process has not read yet are checked; a damaged one is removed.
        """
        keys = list(dict.fromkeys(keys))
        self._scan()
        shards = {self._shards[key] for key in keys if key in self._shards}
        damaged = [shard for shard in sorted(shards - self._checked) if not self._is_whole(shard)]
        if damaged:
            for shard in damaged:
                shard.unlink(missing_ok=True)
            self._known, self._shards, self._open = set(), {}, {}
            self._scan()
            return self.missing(keys)  # another shard that holds some of them may be damaged as well
        return [key for key in keys if key not in self._shards]

    def add(self, entries: Iterable[tuple[str, Tensor]]) -> None:
        """Store (key, states) as they come; if `entries` raises, what came before is kept.

        A full shard is written by a thread while the next one fills: a slow disk stops the upstream only where it is
        slower than that.

        Raises:
            OSError: the disk is full; earlier shards are kept.
        """
        pending: dict[str, tuple[Tensor, ...]] = {}
        size, since = 0, time.monotonic()  # bytes, and when `pending` was last empty
        with ThreadPoolExecutor(1) as writer:
            written = writer.submit(self._write, {})
            try:
                for key, states in entries:
                    pending[key] = encode(states, self.dtype)
                    size += sum(tensor.nbytes for tensor in pending[key])
                    if size >= SHARD_BYTES or time.monotonic() - since >= SHARD_SECONDS:
                        full, pending = pending, {}
                        written.result()
                        written = writer.submit(self._write, full)
                        size, since = 0, time.monotonic()
            finally:
                written.result()
                self._write(pending)

    def reduce(self, hidden: HiddenStates) -> HiddenStates:
        """What this kind of store keeps of (B, L, T, D): all of it, or means (B, L, 1, D)."""
        return hidden.means() if self.kind == "mean" else hidden

    def _say_if_outdated(self, about: dict[str, Any]) -> None:
        """Log in one line that states are computed again, where a store differs in the fingerprint alone."""
        wanted = json.loads(json.dumps(about))
        for meta in sorted(self.folder.parent.glob(f"*/{META}")):
            with suppress(OSError, ValueError):
                other = read_json(meta)
                if isinstance(other, dict) and other | {"fingerprint": wanted["fingerprint"]} == wanted:
                    logger.warning(
                        "The hidden states of %s in %s are of another version of it; they are computed again. "
                        "`undertone store prune` removes stores that are no longer used.",
                        about["upstream"]["name"], meta.parent,
                    )  # fmt: skip
                    return

    def _is_whole(self, shard: Path) -> bool:
        try:
            damage = find_damage(shard)
        except FileNotFoundError:
            damage = "another process has removed it"
        if damage is None:
            self._checked.add(shard)
        else:
            logger.warning("%s is damaged (%s); what it held is computed again.", shard, damage)
        return damage is None

    def _write(self, entries: dict[str, tuple[Tensor, ...]]) -> None:
        if not entries:
            return
        shard = write_shard(self.folder, entries)
        self._known.add(shard)
        self._checked.add(shard)
        self._shards.update(dict.fromkeys(entries, shard))

    def _scan(self) -> None:
        """Read the headers of shards not seen before; one without a readable header is removed."""
        for shard in sorted(set(self.folder.glob(f"*{SUFFIX}")) - self._known):
            try:
                for key in Shard(shard).keys():  # noqa: SIM118
                    self._shards.setdefault(key, shard)
            except FileNotFoundError:  # another process has found it damaged
                continue
            except SafetensorError as error:
                logger.warning("%s is damaged (%s); what it held is computed again.", shard, error)
                shard.unlink(missing_ok=True)
                continue
            self._known.add(shard)


def _describe(upstream: Upstream) -> dict[str, Any]:
    """What a person wants to know of a store."""
    about = {key: upstream.spec().get(key) for key in ("kind", "revision", "commit", "options", "do_normalize")}
    return {
        "upstream": {"name": upstream.name} | {key: value for key, value in about.items() if value is not None},
        "sample_rate": upstream.sample_rate,
        "num_layers": upstream.num_layers,
        "hidden_size": upstream.hidden_size,
        "random_weights": upstream.random_weights,
    }
