"""What a Hub keeps: blobs, commits with their whole tree, repositories."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class Blob:
    """One file's content: `lfs` ones are named by their sha256, plain ones by git's sha1."""

    data: bytes
    lfs: bool

    @cached_property
    def oid(self) -> str:
        """What the Hub serves as the ETag."""
        if self.lfs:
            return hashlib.sha256(self.data).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(self.data) + self.data).hexdigest()

    def entry(self, path: str) -> dict[str, Any]:
        """The file's row in the listing of a tree."""
        entry: dict[str, Any] = {"type": "file", "path": path, "size": len(self.data), "oid": self.oid}
        if self.lfs:
            entry["lfs"] = {"oid": self.oid, "size": len(self.data), "pointerSize": 134}
        return entry


@dataclass(frozen=True)
class Commit:
    """A commit with its whole tree."""

    message: str
    files: dict[str, Blob]
    parent: str = ""

    @cached_property
    def oid(self) -> str:
        """40 hex digits that depend on parent, message and tree."""
        tree = sorted((path, blob.oid) for path, blob in self.files.items())
        return hashlib.sha1(repr((self.parent, self.message, tree)).encode()).hexdigest()


INITIAL = Commit("initial commit", {".gitattributes": Blob(b"", lfs=False)})


@dataclass
class Repo:
    """A model repository; every commit of main, oldest first, and of its other branches; tags; open pull requests."""

    private: bool
    commits: list[Commit] = field(default_factory=lambda: [INITIAL])
    gated: bool = False
    branches: dict[str, list[Commit]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pull_requests: list[Commit] = field(default_factory=list)
