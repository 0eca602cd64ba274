"""Shared by all tests: offline, few threads, nothing written to the user's cache, a corpus made once."""

import os
import shutil
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLCONFIGDIR", str(Path("~/.cache/matplotlib").expanduser()))  # its fonts, found once a machine
os.environ["UNDERTONE_TRACEBACK"] = "1"  # what no sentence was written for fails a test
os.environ["HOME"] = tempfile.mkdtemp(prefix="undertone-tests-")  # before any library asks where its cache is

import pytest

os.environ.pop("HF_HOME", None)
HOME = Path(os.environ["HOME"])
REPOSITORY = Path(__file__).resolve().parents[1]
DATA = REPOSITORY / ".." / "shared" / "data"


def pytest_collection_modifyitems(items):
    """Tests marked `data` need the real speech; elsewhere they are skipped and say so."""
    for item in items:
        if item.get_closest_marker("data") and not DATA.is_dir():
            item.add_marker(pytest.mark.skip(reason="needs the real speech in ../shared/data"))


@pytest.fixture(scope="session", autouse=True)
def _empty_home_and_working_folder():
    """Each process has folders of its own for both, so that what is written there was written by its tests."""
    (HOME / "here").mkdir()
    os.chdir(HOME / "here")
    yield
    os.chdir(REPOSITORY)
    shutil.rmtree(HOME, ignore_errors=True)


@pytest.fixture(autouse=True)
def _nothing_written_elsewhere(_empty_home_and_working_folder):
    """A test writes into `tmp_path` alone: not into the repository, the home, the working folder or the root."""
    before = _entries()
    yield
    new = sorted(_entries() - before)
    assert not new, f"The test wrote outside of tmp_path: {', '.join(new)}"


def _entries() -> set[str]:
    places = (REPOSITORY, HOME, HOME / "here", Path("/"))  # ~/.cache is where libraries and the default store write
    return {entry.path for place in places if place.is_dir() for entry in os.scandir(place) if entry.name[0] != "."}


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk():
    """Files are not forced to the disk, which only a power cut could tell from a file that was: it takes milliseconds.

    Processes that tests start, and those that they kill, do wait.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of the real speech."""
    return DATA


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory) -> Path:
    """A CSV table of a small synthetic corpus: 4 speakers, 4 emotions, 4 utterances each."""
    import csv

    from undertone.corpora.synthetic import Synthetic

    root = tmp_path_factory.mktemp("small") / "corpus"
    rows = list(Synthetic(seed=1, num_speakers=4, per_emotion=4).rows(root))
    table = root / "table.csv"
    columns = ["file", "speaker", "gender", "emotion", "arousal"]
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for row in rows:
            aroused = row["emotion"] in ("angry", "happy")
            own = {"file": row["path"], "arousal": 0.8 if aroused else 0.2}
            writer.writerow({name: row.get(name) for name in columns} | own)
    return table
