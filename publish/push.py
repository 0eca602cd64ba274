"""Upload a trained model: its files, its results and its card in one commit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from undertone.common.files import read_json
from undertone.common.hub_client import check_repo_id, find_model, hub_errors, local_model, signed_in
from undertone.publish.card import upstream_specs
from undertone.publish.collect import PRETRAINING, collect, head_only_model, write_folder

OURS = (".json", ".safetensors", ".png")  # types of files that a push replaces and removes


def push(
    run_or_model: str | Path,
    repo_id: str,
    *,
    private: bool = True,
    head_only: bool = False,
    token: str | None = None,
    message: str | None = None,
    speaker_names: bool = False,
    licence: str | None = None,
    branch: str | None = None,
    tag: str | None = None,
    create_pr: bool = False,
) -> str:
    """Upload a model to the Hub; the repository is created if it does not exist.

    Uploaded: the model folder's JSON and safetensors files, the run's `results.json`, pictures of the confusion
    matrices and layer weights, and a card as `README.md`, in one commit that also removes files of an earlier push.
    Not uploaded: predictions, checkpoints, audio, names of files and folders, and names of speakers. The number of
    speakers and slow salted hashes are, by which `undertone evaluate` recognises training speakers (see
    `undertone.downstream.speaker_hashes.hash_speakers` for what these can and cannot hide); folds are numbered.

    Args:
        run_or_model: a run (its `model/` and `results.json`), a model folder, the Hub id of an Undertone model, or an
            upstream of `undertone pretrain`.
        repo_id: `user/name` or `organisation/name`.
        private: whether a *new* repository is private; an existing one stays as it is.
        head_only: leave the frozen upstream out and name it; a LoRA run's adapters are uploaded instead.
        token: Hub token; None: that of `hf auth login` or HF_TOKEN.
        message: of the commit.
        speaker_names: upload the names of speakers and folds as they are.
        licence: of the model, the Hub's name of it, such as `cc-by-nc-4.0`; None: the card says that none was chosen.
        branch: to commit to, made if it does not exist, or of a pull request, which makes none; None: main.
        tag: to set on the commit; refused if the repository has it.
        create_pr: open a pull request instead of committing, also in a repository that you may only read.

    Returns:
        The URL of the commit, or of the pull request; of the latest one if nothing has changed.

    Raises:
        ValueError: a malformed `repo_id`, no model, no token, an upstream that cannot be left out, or an existing
            repository that holds something else.
        HubError: the Hub refused, or could not be reached.
    """
    check_licence(licence)
    if create_pr and tag is not None:
        raise ValueError("--tag is for a commit, and --create-pr makes none. Tag it after the pull request is merged.")
    folder = _check(run_or_model, repo_id)
    model = head_only_model(folder) if head_only else local_model(folder)
    api = HfApi(token=signed_in(token), library_name="undertone")
    of_upstream = _upstream_licence(api, model, needed=head_only)
    files = collect(
        folder, repo_id, head_only=head_only, upstream_licence=of_upstream, speaker_names=speaker_names, licence=licence
    )
    with hub_errors(repo_id):
        there = _files_there(api, repo_id, private, branch, create=not create_pr)
        if tag is not None and tag in {ref.name for ref in api.list_repo_refs(repo_id).tags}:
            raise ValueError(f"{repo_id!r} has a tag {tag!r} already. Choose another --tag; tags are not moved.")
        stale = [name for name in there if name.endswith(OURS) and name not in files]
        commit = api.create_commit(
            repo_id,
            [*(CommitOperationAdd(*item) for item in files.items()), *map(CommitOperationDelete, stale)],
            commit_message=message or "Push a model with Undertone",
            revision=branch,
            create_pr=create_pr,
        )
        if tag is not None:
            api.create_tag(repo_id, tag=tag, revision=commit.oid)
    return commit.pr_url or commit.commit_url


def dry_run(
    run_or_model: str | Path,
    repo_id: str,
    *,
    head_only: bool = False,
    speaker_names: bool = False,
    licence: str | None = None,
) -> tuple[Path, dict[str, int]]:
    """Write what `push` would upload into a folder beside the run, without contacting the Hub.

    Returns:
        the folder, and {path in the repository: bytes}.

    Raises:
        ValueError: as `push`, except for the token and the repository; or the folder holds other files.
    """
    check_licence(licence)
    folder = _check(run_or_model, repo_id)
    beside = Path(run_or_model) if Path(run_or_model).is_dir() else Path(Path(run_or_model).name)  # not in the cache
    target = beside.absolute().with_name(f"{beside.absolute().name}-published")
    if foreign := [path.name for path in target.rglob("*") if path.is_file() and path.suffix not in (*OURS, ".md")]:
        raise ValueError(f"{target} holds {foreign[0]}, which no dry run wrote. Move that folder away.")
    write_folder(collect(folder, repo_id, head_only=head_only, speaker_names=speaker_names, licence=licence), target)
    paths = sorted(path for path in target.rglob("*") if path.is_file())
    return target, {path.relative_to(target).as_posix(): path.stat().st_size for path in paths}


def check_target(repo_id: str) -> None:
    """Check before a training that its model can be pushed.

    Raises:
        ValueError: a malformed `repo_id`, or no token.
        HubError: the Hub does not accept the token, or could not be reached.
    """
    check_repo_id(repo_id)
    api = HfApi(token=signed_in(), library_name="undertone")
    with hub_errors(repo_id):
        api.whoami()


def _check(run_or_model: str | Path, repo_id: str) -> Path:
    check_repo_id(repo_id)
    folder = Path(run_or_model)
    return folder if folder.is_dir() else find_model(run_or_model)


LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]*")


def check_licence(licence: str | None) -> None:
    """Refuse what is no name of a licence on the Hub, which are like `apache-2.0`, `cc-by-nc-4.0` and `other`."""
    if licence is not None and not LICENCE.fullmatch(licence):
        raise ValueError(
            f"--license {licence!r} is no name of a licence on the Hub: those are in lower case without blanks, such "
            f"as apache-2.0, cc-by-nc-4.0, other."
        )


def _files_there(api: HfApi, repo_id: str, private: bool, branch: str | None, create: bool) -> list[str]:
    """The files of the repository's branch; refused if these are no Undertone model.

    With `create` both are made if they are not there.
    """
    if create:
        api.create_repo(repo_id, private=private, exist_ok=True)
        if branch is not None:
            api.create_branch(repo_id, branch=branch, exist_ok=True)
    files = [sibling.rfilename for sibling in api.model_info(repo_id, revision=branch).siblings or []]
    content = [name for name in files if name not in (".gitattributes", "README.md")]
    ours = PRETRAINING in content or ("config.json" in content and _is_ours(api, repo_id, branch))
    if content and not ours:
        raise ValueError(
            f"The name {repo_id!r} is taken: that repository holds {', '.join(sorted(content)[:3])} and no "
            f"Undertone model. Choose another name."
        )
    return files


def _is_ours(api: HfApi, repo_id: str, branch: str | None) -> bool:
    config: Any = read_json(Path(api.hf_hub_download(repo_id, "config.json", revision=branch)))
    return bool(config.get("model_type") == "undertone")


def _upstream_licence(api: HfApi, model: Path, needed: bool) -> str | None:
    """The licence on a Hub upstream's card; where the upstream is `needed`, also a check that it can be downloaded."""
    specs = [] if (model / PRETRAINING).is_file() else upstream_specs(read_json(model / "config.json"))
    found = [_licence_of(api, spec, needed) for spec in specs if spec["kind"] == "hf" and spec.get("commit")]
    return ", ".join(dict.fromkeys(filter(None, found))) or None


def _licence_of(api: HfApi, upstream: Mapping[str, Any], needed: bool) -> str | None:
    """The licence of one upstream."""
    try:
        with hub_errors(upstream["name"]):
            card = api.model_info(upstream["name"], revision=upstream["commit"] if needed else None).card_data
    except OSError as error:
        gone = isinstance(error.__cause__, RepositoryNotFoundError) or (
            isinstance(error.__cause__, HfHubHTTPError) and error.__cause__.response.status_code in (401, 403, 404)
        )
        if needed or not gone:
            raise
        return None  # the model is whole and does not need its upstream's repository, which may be gone
    licence = card.get("license") if card is not None else None
    return str(licence) if licence else None
