"""The loopback Hub itself: it must refuse what the real one refuses, or tests built on it prove nothing."""

from __future__ import annotations

import hashlib
import json
import urllib.error
import urllib.request

import pytest

TOKEN = {"Authorization": "Bearer hf_loopback"}


def request(url, method="GET", data=None, headers=None):
    """(status, headers, body) of one raw HTTP request."""
    asked = urllib.request.Request(url, method=method, data=data, headers=headers or {})
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


UPLOAD = """
from huggingface_hub import HfApi
api = HfApi()
print(api.whoami()["name"])
api.create_repo("tester/model", private=True, exist_ok=True)
api.create_repo("tester/model", private=True, exist_ok=True)
from huggingface_hub import CommitOperationAdd as Add
files = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 9, "empty.txt": b""}
print(api.create_commit("tester/model", [Add(name, data) for name, data in files.items()], commit_message="first").oid)
"""


@pytest.fixture
def pushed(hub, client):
    answer = client(UPLOAD)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.split()[0] == "tester"
    return hub


def test_a_commit_keeps_every_byte(pushed):
    assert [commit.message for commit in pushed.commits("tester/model")] == ["first"]
    files = pushed.files("tester/model")
    assert files["model.safetensors"] == bytes(range(256)) * 9
    assert files["config.json"] == b"{}" and files["empty.txt"] == b""
    assert set(pushed.blobs) == {hashlib.sha256(files["model.safetensors"]).hexdigest()}, "only the weights go to LFS"


def test_the_client_downloads_what_it_uploaded(pushed, client):
    code = "from huggingface_hub import hf_hub_download as get; print(open(get({!r}, {!r}), 'rb').read().hex())"
    for name, data in pushed.files("tester/model").items():
        answer = client(code.format("tester/model", name))
        assert answer.stdout.strip() == data.hex(), answer.stderr


def test_etag_and_commit_name_the_content(pushed):
    data = pushed.files("tester/model")["model.safetensors"]
    url = f"{pushed.endpoint}/tester/model/resolve/main/"
    status, headers, body = request(url + "model.safetensors", "HEAD", headers=TOKEN)
    assert (status, body) == (200, b"")
    assert headers["ETag"].strip('"') == hashlib.sha256(data).hexdigest()
    assert headers["X-Repo-Commit"] == pushed.commits("tester/model")[-1].oid
    assert int(headers["Content-Length"]) == len(data)
    _, headers, _ = request(url + "config.json", headers=TOKEN)
    assert headers["ETag"].strip('"') == "9e26dfeeb6e641a33dae4961196235bdb965b21b", "git hash-object of '{}'"


@pytest.mark.parametrize("asked, first, last", [("bytes=10-19", 10, 19), ("bytes=2300-", 2300, 2303)])
def test_range_returns_the_part(pushed, asked, first, last):
    url = f"{pushed.endpoint}/tester/model/resolve/main/model.safetensors"
    status, headers, body = request(url, headers=TOKEN | {"Range": asked})
    assert status == 206
    assert body == pushed.files("tester/model")["model.safetensors"][first : last + 1]
    assert headers["Content-Range"] == f"bytes {first}-{last}/2304"


def test_a_wrong_hash_is_refused(pushed):
    oid = hashlib.sha256(b"what was promised").hexdigest()
    status, _, _ = request(f"{pushed.endpoint}/lfs/{oid}", "PUT", b"something else")
    assert status == 400 and oid not in pushed.blobs
    lines = [
        {"key": "header", "value": {"summary": "second"}},
        {"key": "lfsFile", "value": {"path": "x.bin", "oid": oid, "size": 17}},
    ]
    body = "\n".join(map(json.dumps, lines)).encode()
    status, _, _ = request(f"{pushed.endpoint}/api/models/tester/model/commit/main", "POST", body, TOKEN)
    assert status == 400 and len(pushed.commits("tester/model")) == 1


def test_a_wrong_size_is_not_verified(pushed):
    oid = next(iter(pushed.blobs))
    url = f"{pushed.endpoint}/tester/model.git/info/lfs/objects/verify"
    assert request(url, "POST", json.dumps({"oid": oid, "size": 2304}).encode(), TOKEN)[0] == 200
    assert request(url, "POST", json.dumps({"oid": oid, "size": 2303}).encode(), TOKEN)[0] == 400


@pytest.mark.parametrize(
    "path, headers, status, code",
    [
        ("/api/models/tester/none", TOKEN, 404, "RepoNotFound"),
        ("/api/models/tester/none", {}, 401, "RepoNotFound"),
        ("/api/models/tester/model", {}, 401, "RepoNotFound"),
        ("/api/models/tester/model/revision/v9", TOKEN, 404, "RevisionNotFound"),
        ("/tester/model/resolve/main/none.json", TOKEN, 404, "EntryNotFound"),
        ("/api/whoami-v2", {}, 401, None),
    ],
)
def test_refusals_carry_the_code_of_the_real_hub(pushed, path, headers, status, code):
    answer = request(pushed.endpoint + path, headers=headers)
    assert (answer[0], answer[1]["X-Error-Code"]) == (status, code)


def test_writing_needs_the_token(pushed):
    for path in ("repos/create", "models/tester/model/commit/main", "models/tester/model/preupload/main"):
        assert request(f"{pushed.endpoint}/api/{path}", "POST", b"{}")[0] == 401
    assert len(pushed.commits("tester/model")) == 1
