"""What README says is done: its commands run, its tables are those of the results in docs/results."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from undertone.common.discovery import load_file
from undertone.recipes.systems import load_system
from undertone.tests.cli.commands import undertone
from undertone.tests.cli.test_processes import LAUNCH
from undertone.training.settings import make_config

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
DISTRIBUTED = (ROOT / "docs" / "distributed.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README + DISTRIBUTED, re.DOTALL)
COMMANDS = [
    line.split("  #")[0].strip()
    for language, block in BLOCKS
    if language == "bash"
    for line in block.splitlines()
    if line.strip() and not line.startswith("#")
]
OURS = [command for command in COMMANDS if command.startswith("undertone ")]


@pytest.fixture(scope="module")
def calls(small_corpus, tmp_path_factory) -> Path:
    """A folder with what README's own-data section speaks of: calls.csv and two new calls."""
    folder = tmp_path_factory.mktemp("calls")
    shutil.copytree(small_corpus.parent, folder / "calls")
    table = (folder / "calls" / "table.csv").read_text()
    (folder / "calls.csv").write_text(table.replace(str(small_corpus.parent), "calls"))
    wavs = sorted((folder / "calls").rglob("*.wav"))
    shutil.copy(wavs[0], folder / "new_call.wav")
    (folder / "recordings").mkdir()
    shutil.copy(wavs[1], folder / "recordings" / "another.wav")
    return folder


def test_the_own_data_section_from_the_table_to_the_prediction(calls, monkeypatch):
    monkeypatch.chdir(calls)
    monkeypatch.setenv("HOME", str(calls))
    section = [command for command in OURS if "calls" in command]
    assert len(section) == 7
    for command in section:
        if command.startswith("undertone push") and not command.endswith("--dry-run"):
            continue  # tests/publish pushes to a loopback hub
        # No pretrained weights offline, and no time: another upstream, two folds, one epoch.
        quick = " --upstream fbank --protocol groups num_folds=2 max_epochs=1"
        program, *words = shlex.split(re.sub(r" --upstream \S+", quick, command))
        outcome = undertone(*words)
        assert program == "undertone" and outcome.status == 0, f"{command}\n{outcome.out}\n{outcome.err}"
    python = next(block for language, block in BLOCKS if language == "python")  # of the run that quickstart makes
    python = python.replace("runs/quickstart/corpus/seed0/F1_sad_01.wav", "new_call.wav")
    python = python.replace("runs/quickstart", "runs/calls")
    exec(python, {})


def test_the_tables_are_those_of_the_results():
    done = subprocess.run([sys.executable, "benchmarks/tables.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_words_in_a_systems_row_make_the_run_of_its_results(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")  # whose files import each other, as scripts do
    tables = load_file(ROOT / "benchmarks" / "tables.py")
    for corpus in tables.CORPORA:
        for name, results in tables.runs_on(corpus).items():
            if name in tables.UPSTREAMS:
                continue
            system, *words = tables.SYSTEMS.get(name, name).split()
            config = make_config({"corpus": corpus}, words, preset=load_system(system))
            assert (config.head, config.upstream) == (results["head"], results["upstream"]), name
            assert set(config.tasks) <= {task["name"] for task in results["tasks"]}, name


def test_accelerate_reads_the_config_of_several_machines(tmp_path):
    from accelerate.commands.config.config_args import load_config_from_file

    (tmp_path / "accelerate.yaml").write_text(next(block for language, block in BLOCKS if language == "yaml"))
    config = load_config_from_file(str(tmp_path / "accelerate.yaml"))
    assert (config.num_machines, config.num_processes, config.machine_rank) == (2, 8, 0)


def test_accelerate_is_launched_without_a_gpu_as_the_tests_do_it():
    launched = next(
        line for _, block in BLOCKS for line in block.splitlines() if "accelerate launch --multi_gpu" in line
    )
    words = [word for word in LAUNCH[3:] if word not in ("--main_process_port", "0")]
    assert launched.startswith(f"accelerate launch {' '.join(words)} ") and launched.endswith(" device=cpu")


def test_ci_calls_readme_s_test_command():
    script = (ROOT / ".ci" / "run").read_text()
    program = re.search(r"awk '(.*)' README.md", script)
    assert program is not None
    found = subprocess.run(
        ["awk", program[1], "README.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    command = next(line for line in found.splitlines() if not line.startswith("#"))
    assert command in README and command.endswith(" && pytest") and "-c constraints.txt" in command
