"""What was made from the files read last, so that many spans of one file cost one decoding."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from os import PathLike
from threading import Lock
from typing import Generic, TypeVar

Made = TypeVar("Made")
Used = TypeVar("Used")
_Key = tuple[str, int, int]


class Kept(Generic[Made]):
    """The last things made, up to a number of bytes; threads that want that of one file wait for the first of them.

    Args:
        most: bytes to keep; the last one is kept whatever its size.
        size: bytes of one.
        drop: called with one that is no longer kept.
    """

    def __init__(self, most: int, size: Callable[[Made], int], drop: Callable[[Made], None] = lambda _: None) -> None:
        self.most, self.size, self.drop = most, size, drop
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """Start empty; also in a forked process, where a lock that another thread held would never be released."""
        self.made: OrderedDict[_Key, Made] = OrderedDict()
        self.busy: dict[_Key, Lock] = {}
        self.lock = Lock()

    def get(self, path: str | PathLike[str], make: Callable[[], Made], use: Callable[[Made], Used]) -> Used:
        """`use` of what `make` gives for the file as it is now; nothing is dropped while `use` runs.

        Raises:
            OSError: there is no such file.
        """
        status = os.stat(path)
        key = os.path.realpath(path), status.st_size, status.st_mtime_ns
        with self.lock:
            busy = self.busy.setdefault(key, Lock())
        with busy:
            try:
                with self.lock:
                    if key in self.made:
                        self.made.move_to_end(key)
                        return use(self.made[key])
                made = make()
                with self.lock:
                    self.made[key] = made
                    while len(self.made) > 1 and sum(map(self.size, self.made.values())) > self.most:
                        self.drop(self.made.popitem(last=False)[1])
                    return use(made)
            finally:
                with self.lock:
                    self.busy.pop(key, None)
