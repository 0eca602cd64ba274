"""A Hub on 127.0.0.1 for the real `huggingface_hub` client: keeps commits, checks sha256, serves ETag and Range."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

from undertone.tests.publish.repository import Blob, Commit, Repo

TOKEN = "hf_loopback"
USER = "tester"
LFS_PATTERNS = ("*.safetensors", "*.bin", "*.onnx", "*.parquet", "*.png")
REPO = r"(?P<repo>[\w.-]+/[\w.-]+)"
ROUTES = [
    ("GET", r"/api/whoami-v2", "whoami"),
    ("POST", r"/api/repos/create", "create"),
    ("POST", r"/api/validate-yaml", "validate_yaml"),
    ("POST", rf"/api/models/{REPO}/preupload/(?P<revision>[^/]+)", "preupload"),
    ("POST", rf"/api/models/{REPO}/commit/(?P<revision>[^/]+)", "commit"),
    ("POST", rf"/api/models/{REPO}/branch/(?P<branch>[^/]+)", "branch"),
    ("POST", rf"/api/models/{REPO}/tag/(?P<revision>[^/]+)", "tag"),
    ("GET", rf"/api/models/{REPO}/refs", "refs"),
    ("POST", rf"/api/models/{REPO}/paths-info/(?P<revision>[^/]+)", "paths_info"),
    ("GET", rf"/api/models/{REPO}/tree/(?P<revision>[^/]+)", "tree"),
    ("GET", rf"/api/models/{REPO}(/revision/(?P<revision>[^/]+))?", "info"),
    ("POST", rf"/{REPO}\.git/info/lfs/objects/batch", "lfs_batch"),
    ("POST", rf"/{REPO}\.git/info/lfs/objects/verify", "lfs_verify"),
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", "lfs_put"),
    ("GET", rf"/{REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
]


class Refused(Exception):
    """An answer other than 200, with the headers the real Hub sends."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status, self.code = status, code


class LoopbackHub:
    """Context manager around the server; `with LoopbackHub() as hub: ... hub.endpoint ...`.

    Attributes:
        endpoint: value for `HF_ENDPOINT`.
        repos: {repo id: Repo}.
        blobs: {sha256: bytes} of the uploaded large files.
        requests: `METHOD /path` of every request, in order.
    """

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[str] = []
        self._failures: list[tuple[str, int]] = []
        self._drops: list[list[Any]] = []
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> LoopbackHub:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def commits(self, repo_id: str) -> list[Commit]:
        """What was pushed to the repository, oldest first, without the empty initial commit."""
        return self.repos[repo_id].commits[1:]

    def files(self, repo_id: str) -> dict[str, bytes]:
        """{path: content} at the head of `main`."""
        return {path: blob.data for path, blob in self.repos[repo_id].commits[-1].files.items()}

    def fail(self, pattern: str, status: int) -> None:
        """From now on answer `status` to every request whose `METHOD /path` matches the glob `pattern`."""
        self._failures.append((pattern, status))

    def drop(self, pattern: str, times: int = 1_000_000) -> None:
        """Close the connection in the middle of the next `times` matching requests: of what is sent or answered."""
        self._drops.append([pattern, times])

    def dropped(self, request: str) -> bool:
        """Whether `drop` asked for this request to break off."""
        for drop in self._drops:
            if drop[1] and fnmatch(request, drop[0]):
                drop[1] -= 1
                return True
        return False

    def planned_failure(self, request: str) -> int | None:
        """The status that `fail` asked for, or None."""
        return next((status for pattern, status in self._failures if fnmatch(request, pattern)), None)


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' output clean."""

    def _dispatch(self) -> None:
        path = unquote(urlsplit(self.path).path)
        path = path.replace("/api/datasets/", "/api/models/", 1).removeprefix(
            "/datasets"
        )  # data sets live beside models
        size = int(self.headers.get("Content-Length", 0))
        self._breaks_off = self.hub.dropped(f"{self.command} {path}")
        self.hub.requests.append(f"{self.command} {path}")
        body = self.rfile.read(size // 2 if self._breaks_off else size)
        if self._breaks_off and (size or self.command == "HEAD"):
            self._hang_up()
            return
        try:
            if status := self.hub.planned_failure(f"{self.command} {path}"):
                raise Refused(status, "a failure that the test asked for")
            action, names = self._route(path)
            action(body, **names)
        except Refused as refused:
            headers = {"X-Error-Message": str(refused)} | ({"X-Error-Code": refused.code} if refused.code else {})
            self._send(refused.status, json.dumps({"error": str(refused)}).encode(), headers)

    do_GET = do_HEAD = do_POST = do_PUT = _dispatch

    def _route(self, path: str) -> tuple[Callable[..., None], dict[str, str]]:
        method = "GET" if self.command == "HEAD" else self.command
        for route_method, pattern, name in ROUTES:
            if route_method == method and (match := re.fullmatch(pattern, path)):
                return getattr(self, f"_{name}"), match.groupdict()
        raise Refused(404, f"no such page: {path}")

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if self._breaks_off else body)
        if self._breaks_off:
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    # ---- who asks, and for what

    @property
    def _signed_in(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _require_token(self) -> None:
        if not self._signed_in:
            raise Refused(401, "Invalid credentials in Authorization header")

    def _repo(self, repo_id: str) -> Repo:
        repo = self.hub.repos.get(repo_id)
        if repo is None or (repo.private and not self._signed_in):
            raise Refused(404 if self._signed_in else 401, "Repository not found", "RepoNotFound")
        if repo.gated:
            raise Refused(403, f"Access to model {repo_id} is restricted", "GatedRepo")
        return repo

    def _commit_at(self, repo_id: str, revision: str | None) -> Commit:
        repo = self._repo(repo_id)
        commits = repo.commits
        if revision in repo.branches:
            return repo.branches[revision][-1]
        every = [*commits, *(commit for branch in repo.branches.values() for commit in branch)]
        found = [commit for commit in every if commit.oid == repo.tags.get(str(revision), revision)]
        if not found and revision not in (None, "main"):
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return found[0] if found else commits[-1]

    # ---- writing

    def _whoami(self, body: bytes) -> None:
        self._require_token()
        self._json({"type": "user", "name": USER, "auth": {"accessToken": {"role": "write"}}})

    def _create(self, body: bytes) -> None:
        self._require_token()
        wanted = json.loads(body)
        owner = wanted.get("organization") or USER
        repo_id = f"{owner}/{wanted['name']}"
        if owner != USER:
            raise Refused(403, f'You don\'t have the rights to create a model under the namespace "{owner}"')
        if repo_id in self.hub.repos:
            self._send(409, json.dumps({"error": "exists", "url": f"{self.hub.endpoint}/{repo_id}"}).encode())
            return
        self.hub.repos[repo_id] = Repo(private=wanted.get("visibility") == "private")
        self._json({"url": f"{self.hub.endpoint}/{repo_id}"})

    def _validate_yaml(self, body: bytes) -> None:
        content = json.loads(body)["content"]
        match = re.match(r"---\n(.*?)\n---\n", content, re.DOTALL)
        try:
            metadata = yaml.safe_load(match[1]) if match else None
        except yaml.YAMLError as error:
            self._send(400, json.dumps({"errors": [{"message": str(error)}], "warnings": []}).encode())
            return
        self._json({"errors": [], "warnings": [] if metadata else [{"message": "empty or missing yaml metadata"}]})

    def _preupload(self, body: bytes, repo: str, revision: str) -> None:
        self._require_token()
        known = self._commit_at(repo, revision).files
        answer = []
        for file in json.loads(body)["files"]:
            lfs = file["size"] > 10_000_000 or any(fnmatch(file["path"], pattern) for pattern in LFS_PATTERNS)
            oid = {"oid": known[file["path"]].oid} if file["path"] in known else {}
            mode = "lfs" if lfs else "regular"
            answer.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False} | oid)
        self._json({"files": answer})

    def _lfs_batch(self, body: bytes, repo: str) -> None:
        self._require_token()
        objects = json.loads(body)["objects"]
        for wanted in objects:
            if wanted["oid"] not in self.hub.blobs:
                verify = f"{self.hub.endpoint}/{repo}.git/info/lfs/objects/verify"
                upload = f"{self.hub.endpoint}/lfs/{wanted['oid']}"
                wanted["actions"] = {"upload": {"href": upload}, "verify": {"href": verify}}
        self._json({"transfer": "basic", "objects": objects})

    def _lfs_put(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            raise Refused(400, f"the content's sha256 is not {oid}")
        self.hub.blobs[oid] = body
        self._send(200, b"")

    def _check_blob(self, oid: str, size: int) -> bytes:
        data = self.hub.blobs.get(oid)
        if data is None or len(data) != size:
            raise Refused(400, f"LFS object {oid} of {size} bytes was not uploaded")
        return data

    def _lfs_verify(self, body: bytes, repo: str) -> None:
        self._require_token()
        claim = json.loads(body)
        self._check_blob(claim["oid"], claim["size"])
        self._json({})

    def _commit(self, body: bytes, repo: str, revision: str) -> None:
        self._require_token()
        head = self._commit_at(repo, revision)
        files, message = dict(head.files), ""
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                message = value["summary"]
            elif item["key"] == "file":
                files[value["path"]] = Blob(base64.b64decode(value["content"]), lfs=False)
            elif item["key"] == "lfsFile":
                files[value["path"]] = Blob(self._check_blob(value["oid"], value["size"]), lfs=True)
            elif item["key"] == "deletedFile":
                del files[value["path"]]
            else:
                raise Refused(400, f"unknown operation {item['key']!r}")
        commit, kept = Commit(message, files, head.oid), self._repo(repo)
        answer = {"commitUrl": f"{self.hub.endpoint}/{repo}/commit/{commit.oid}", "commitOid": commit.oid}
        if "create_pr=1" in self.path:
            kept.pull_requests.append(commit)
            answer["pullRequestUrl"] = f"{self.hub.endpoint}/{repo}/discussions/{len(kept.pull_requests)}"
        else:
            kept.branches.get(revision, kept.commits).append(commit)
        self._json(answer)

    def _branch(self, body: bytes, repo: str, branch: str) -> None:
        self._require_token()
        kept = self._repo(repo)
        if branch in kept.branches or branch == "main":
            raise Refused(409, f"Reference already exists: {branch}")
        kept.branches[branch] = list(kept.commits)
        self._json({})

    def _tag(self, body: bytes, repo: str, revision: str) -> None:
        self._require_token()
        self._repo(repo).tags[json.loads(body)["tag"]] = self._commit_at(repo, revision).oid
        self._json({})

    # ---- reading

    def _refs(self, body: bytes, repo: str) -> None:
        tags = [
            {"name": name, "ref": f"refs/tags/{name}", "targetCommit": oid}
            for name, oid in self._repo(repo).tags.items()
        ]
        self._json({"branches": [], "converts": [], "tags": tags})

    def _info(self, body: bytes, repo: str, revision: str | None) -> None:
        commit = self._commit_at(repo, revision)
        siblings = [{"rfilename": path} for path in commit.files]
        private = self._repo(repo).private
        self._json({"_id": repo, "id": repo, "sha": commit.oid, "private": private, "siblings": siblings, "tags": []})

    def _tree(self, body: bytes, repo: str, revision: str) -> None:
        self._json([blob.entry(path) for path, blob in self._commit_at(repo, revision).files.items()])

    def _paths_info(self, body: bytes, repo: str, revision: str) -> None:
        files = self._commit_at(repo, revision).files
        self._json([files[path].entry(path) for path in json.loads(body)["paths"] if path in files])

    def _resolve(self, body: bytes, repo: str, revision: str, path: str) -> None:
        commit = self._commit_at(repo, revision)
        if path not in commit.files:
            raise Refused(404, "Entry not found", "EntryNotFound")
        blob = commit.files[path]
        headers = {"ETag": f'"{blob.oid}"', "X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes"}
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not match:
            self._send(200, blob.data, headers)
            return
        start, stop = int(match[1]), int(match[2] or len(blob.data) - 1) + 1
        part = blob.data[start:stop]
        headers["Content-Range"] = f"bytes {start}-{start + len(part) - 1}/{len(blob.data)}"
        self._send(206, part, headers)
