"""`push` with the real client against the loopback Hub: what arrives, what stays, and what is said when it fails."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from undertone.common.hub_client import REPO_ID
from undertone.corpora.manifest import Utterance
from undertone.pretraining.card import write_card
from undertone.pretraining.data import Speech
from undertone.pretraining.record import write_pretraining
from undertone.publish.push import push
from undertone.tests.publish.example import write_model, write_run
from undertone.upstream.hf.random_weights import save_random

CODE = """
from undertone.publish.push import push
try:
    print(push({folder!r}, {repo!r}, private={private}, token={token!r}, message={message!r}, **{more!r}))
except (ValueError, OSError) as error:
    print(f"{{type(error).__name__}}: {{error}}")
"""


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "emodb")


@pytest.fixture
def pushed(client, run):
    """`pushed(...)` -> what `push` returned, or the error's class and message."""

    def call(folder=run, repo="tester/emodb", private=True, token=None, message=None, more=None, **env):
        code = CODE.format(
            folder=str(folder), repo=repo, private=private, token=token, message=message, more=more or {}
        )
        answer = client(code, **env)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout.strip()

    return call


def test_one_commit_holds_model_results_and_card(hub, run, pushed):
    url = pushed(message="ten folds")
    (commit,) = hub.commits("tester/emodb")
    assert url == f"{hub.endpoint}/tester/emodb/commit/{commit.oid}"
    assert commit.message == "ten folds" and hub.repos["tester/emodb"].private
    files = hub.files("tester/emodb")
    sent = {"README.md", "config.json", "model.safetensors", "preprocessor_config.json", "results.json"}
    assert set(files) == sent | {".gitattributes"}, "no predictions, no report, no run config"
    for name in ("model.safetensors", "preprocessor_config.json"):
        assert files[name] == (run / "model" / name).read_bytes()
    config, own = json.loads(files["config.json"]), json.loads((run / "model" / "config.json").read_text())
    assert "speakers" not in config.pop("trained_on", {})
    own.pop("trained_on", None)
    assert config == own
    assert json.loads(files["results.json"])["pooled"] == json.loads((run / "results.json").read_text())["pooled"]
    assert b'load_model("tester/emodb")' in files["README.md"] and b"61.2" in files["README.md"]
    assert set(hub.blobs) == {hashlib.sha256(files["model.safetensors"]).hexdigest()}


def test_a_changed_model_is_a_second_commit_and_an_unchanged_one_is_none(hub, run, pushed):
    first = pushed()
    assert pushed() == first and len(hub.commits("tester/emodb")) == 1
    results = json.loads((run / "results.json").read_text())
    (run / "results.json").write_text(json.dumps(results | {"corpus": "emodb2"}))
    assert pushed() != first
    before, after = hub.commits("tester/emodb")
    changed = {path for path in after.files if after.files[path] != before.files.get(path)}
    assert changed == {"results.json", "README.md"}
    assert sum(request.startswith("PUT ") for request in hub.requests) == 1, "the weights were sent once"


def test_a_branch_and_a_tag(hub, run, pushed):
    pushed()
    url = pushed(more={"branch": "next", "tag": "v2", "licence": "cc-by-nc-4.0"})
    repo = hub.repos["tester/emodb"]
    assert len(hub.commits("tester/emodb")) == 1, "main is as it was"
    assert url.endswith(repo.branches["next"][-1].oid) and repo.tags == {"v2": repo.branches["next"][-1].oid}
    assert b"license: cc-by-nc-4.0" in repo.branches["next"][-1].files["README.md"].data
    assert pushed(more={"branch": "next", "tag": "v2"}) == (
        "ValueError: 'tester/emodb' has a tag 'v2' already. Choose another --tag; tags are not moved."
    )


def test_a_branch_of_a_repository_whose_main_is_empty(hub, pushed):
    first = pushed(more={"branch": "next"})
    assert pushed(more={"branch": "next"}) == first and hub.commits("tester/emodb") == []


def test_a_pull_request_against_a_branch(hub, run, pushed):
    """What an earlier push left on that branch is removed, and a branch that is not there is not made."""
    (run / "model" / "earlier.json").write_text("{}")
    pushed(more={"branch": "next"})
    (run / "model" / "earlier.json").unlink()
    pushed(more={"branch": "next", "create_pr": True})
    (request,) = hub.repos["tester/emodb"].pull_requests
    assert "config.json" in request.files and "earlier.json" not in request.files
    assert "has no such revision" in pushed(more={"branch": "other", "create_pr": True})


def test_a_pull_request(hub, run, pushed):
    pushed()
    results = json.loads((run / "results.json").read_text())
    (run / "results.json").write_text(json.dumps(results | {"corpus": "emodb2"}))
    assert pushed(more={"create_pr": True}) == f"{hub.endpoint}/tester/emodb/discussions/1"
    (request,) = hub.repos["tester/emodb"].pull_requests
    assert len(hub.commits("tester/emodb")) == 1 and b"emodb2" in request.files["README.md"].data
    assert "--create-pr makes none" in pushed(more={"create_pr": True, "tag": "v2"})


def test_a_licence_by_another_name_than_the_hubs(hub, pushed):
    assert "--license 'CC BY 4.0' is no name of a licence on the Hub" in pushed(more={"licence": "CC BY 4.0"})
    assert hub.requests == []


def test_a_bare_model_folder_and_a_public_repository(hub, tmp_path, pushed):
    pushed(write_model(tmp_path / "alone"), private=False)
    assert "results.json" not in hub.files("tester/emodb")
    assert b"## Scores" not in hub.files("tester/emodb")["README.md"]
    assert not hub.repos["tester/emodb"].private


def test_no_path_of_this_machine_is_sent(hub, tmp_path, pushed):
    folder = "/home/someone/wav2vec2-mine"
    run = write_run(tmp_path / "run", upstream=folder, warnings=["set aside /home/someone/a.wav: truncated"])
    write_model(tmp_path / "local", kind="hf", name=folder, commit=None, config={"model_type": "wav2vec2"})
    shutil.copytree(tmp_path / "local", run / "model", dirs_exist_ok=True)
    pushed(run)
    files = hub.files("tester/emodb")
    assert not any(b"someone" in content for content in files.values())
    sent, kept = (
        json.loads(content)["upstream"] for content in (files["config.json"], (run / "model/config.json").read_bytes())
    )
    assert sent == kept | {"name": "wav2vec2-mine"}


def test_nothing_is_sent_without_a_token(hub, pushed):
    assert pushed(HF_TOKEN=None) == (
        "ValueError: Not signed in to the Hub: there is no token. Sign in with `hf auth login`, or set HF_TOKEN."
    )
    assert hub.requests == []


def test_a_token_may_be_given(hub, pushed):
    assert pushed(HF_TOKEN=None, token="hf_loopback").startswith(hub.endpoint)


def test_a_wrong_token(pushed):
    answer = pushed(token="hf_stale")
    assert answer.startswith("HubError: The Hub does not accept the token (HTTP 401: Invalid credentials")
    assert answer.endswith("hf auth login.")


def test_a_name_of_somebody_else(hub, pushed):
    answer = pushed(repo="somebody/emodb")
    assert "HubError: The token may not write to 'somebody/emodb' (HTTP 403: You don't have the rights" in answer
    assert "hf auth whoami" in answer and hub.repos == {}


@pytest.mark.parametrize(
    "request_pattern, status, sentence",
    [
        ("POST /api/repos/create", 503, "The Hub has a server error (HTTP 503"),
        pytest.param(
            "POST /api/repos/create", 429, "The Hub limits the rate of requests (HTTP 429", marks=pytest.mark.slow
        ),
        ("POST */commit/main", 409, "Another process is changing 'tester/emodb' right now (HTTP 409"),
        pytest.param(
            "POST */commit/main",
            404,
            "The Hub refused the request for 'tester/emodb' (HTTP 404",
            marks=pytest.mark.slow,
        ),
        pytest.param("PUT /lfs/*", 403, "The token may not write to 'tester/emodb' (HTTP 403", marks=pytest.mark.slow),
    ],
)
def test_refusals_are_sentences(hub, pushed, request_pattern, status, sentence):
    hub.fail(request_pattern, status)
    answer = pushed()
    assert answer.startswith(f"HubError: {sentence}") and answer.count("\n") == 0
    assert hub.repos == {} or hub.commits("tester/emodb") == [], "nothing is half there"


def test_no_network(pushed):
    answer = pushed(HF_ENDPOINT="http://127.0.0.1:9")
    assert answer.startswith("HubError: Cannot reach the Hub at http://127.0.0.1:9 (ConnectError: ")
    assert "Check the network, the proxy and HF_ENDPOINT. Run the same command again" in answer


def test_offline_mode(pushed):
    assert pushed(HF_HUB_OFFLINE="1").startswith("HubError: HF_HUB_OFFLINE is set, so the Hub is not asked")


REPO_IDS = [
    "emodb",
    "a/b/c",
    "me/",
    "/me",
    "me/em odb",
    "me/x--y",
    "me/..",
    "me/x.",
    "-me/x",
    "me/x.git",
    "me/" + 97 * "x",
]


@pytest.mark.parametrize("repo_id", REPO_IDS)
def test_malformed_repository_ids(run, repo_id):
    with pytest.raises(ValueError, match="Give user/name or organisation/name"):
        push(run, repo_id, token="hf_x")


@pytest.mark.parametrize("repo_id", [*REPO_IDS, "me/x", "me-2/x_1.y-z", "m/" + 96 * "x"])
def test_the_rule_for_repository_ids_is_the_clients(repo_id):
    try:
        validate_repo_id(repo_id)
        allowed = "/" in repo_id
    except HFValidationError:
        allowed = False
    assert bool(REPO_ID.fullmatch(repo_id)) is allowed


def test_no_model_names_the_command_that_makes_it(tmp_path, run):
    with pytest.raises(ValueError, match="there is no such folder. Give a model folder, a run, or a Hub id"):
        push(tmp_path / "nowhere", "me/x", token="hf_x")
    with pytest.raises(
        ValueError, match="No model in .*: looked for config.json .* `undertone crossval CORPUS --out RUN`"
    ):
        push(tmp_path, "me/x", token="hf_x")
    (run / "model" / "model.safetensors").unlink()
    with pytest.raises(
        ValueError, match="The run is not finished: .*--out .*emodb` again, which resumes it and refits"
    ):
        push(run, "me/x", token="hf_x")


def test_an_upstream_of_pretrain_is_pushed_without_paths(hub, client, tmp_path, pushed):
    folder = save_random("tiny-w2v-bert", tmp_path / "private" / "mine")
    items = tuple(
        Utterance(f"calls/{number}", f"/secret/{number}.wav", "calls", speaker="Ann", audio_hash=f"{number:064d}")
        for number in range(3)
    )
    settings = {"corpora": ["/secret/calls"], "roots": [], "upstream": str(folder), "objective": "units"}
    settings |= {"targets": "mel", "num_units": 8, "batch_size": 4, "size": None}
    last = {"step": 2, "loss": 2.0, "accuracy": 0.2, "predicted_perplexity": 5.0, "target_perplexity": 7.0}
    told = {"settings": settings, "steps": 2, "history": [last], "transductive": False}
    write_pretraining(folder, Speech(items, ("calls",), ()), told)
    write_card(folder)
    (folder / "training").mkdir()
    (folder / "training" / "settings.json").write_text("{}")
    assert pushed(folder, "tester/mine", more={"licence": "cc0-1.0"}).startswith(f"{hub.endpoint}/tester/mine/commit/")
    files = hub.files("tester/mine")
    sent = {"README.md", "config.json", "model.safetensors", "preprocessor_config.json", "pretraining.json"}
    assert set(files) == sent | {"pretraining.png", ".gitattributes"}
    assert (
        b"secret" not in b"".join(files[name] for name in sent - {"model.safetensors"})
        and b"Ann" not in files["pretraining.json"]
    )
    assert b'load_upstream("tester/mine")' in files["README.md"] and b"license: cc0-1.0" in files["README.md"]
    read = client("from undertone.pretraining.record import _record_of; print(_record_of('tester/mine', None))")
    assert read.stdout.strip().endswith("pretraining.json"), read.stderr
    again = pushed(folder, "tester/mine", message="again")
    assert "commit" in again and "taken" not in again
    assert "is an upstream and has no head. Push it without --head-only" in pushed(
        folder, "tester/mine", more={"head_only": True}
    )
