"""The package's shape: who may import whom, what the wheel holds, what is imported when."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SOURCES = sorted(
    path
    for path in ROOT.rglob("*.py")
    if not any(part[0] == "." or part in ("tests", "build", "benchmarks") for part in path.relative_to(ROOT).parts)
)
FOLDERS = {
    "audio",
    "corpora",
    "downstream",
    "experiments",
    "hub",
    "inference",
    "publish",
    "recipes",
    "report",
    "scoring",
    "training",
    "upstream",
}
EVERYWHERE = {"common"}
MAY_IMPORT = {
    "audio": set(),
    "common": set(),
    "corpora": {"audio"},
    "upstream": {"audio"},
    "downstream": {"audio", "upstream"},
    "scoring": {"downstream"},
    "training": {"audio", "corpora", "upstream", "downstream", "scoring"},
    "experiments": {"audio", "corpora", "upstream", "downstream", "scoring", "training"},
    "report": {"audio", "corpora", "upstream", "downstream", "scoring", "training", "experiments"},
    "hub": {"audio", "upstream", "downstream", "scoring"},
    "publish": {"audio", "upstream", "downstream", "scoring"},
    "inference": {"audio", "upstream", "downstream"},
    "recipes": FOLDERS,
    "commands": FOLDERS,
    "cli.py": {"commands"},
    "__init__.py": FOLDERS,
}


def imports(path: Path) -> set[str]:
    """Our own folders that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative imports make a second copy of the package"
            module = node.module or ""
            names = [f"{module}.{alias.name}" if module == "undertone" else module for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("undertone.")}
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    home = path.relative_to(ROOT).parts[0]
    allowed = MAY_IMPORT[home] | EVERYWHERE | {home}
    assert imports(path) <= allowed


def test_the_listed_packages_are_the_folders():
    folders = {path.parent.relative_to(ROOT) for path in SOURCES if path.parent != ROOT}
    expected = {"undertone", *("undertone." + ".".join(folder.parts) for folder in folders)}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == expected
    for folder in folders:
        assert (ROOT / folder / "__init__.py").is_file(), folder


def test_no_stray_module_lands_in_the_wheel():
    assert {path.name for path in ROOT.glob("*.py")} == {"__init__.py", "cli.py"}


def test_every_requirement_is_pinned_and_no_index_is_named():
    pins = (ROOT / "constraints.txt").read_text()
    assert "://" not in pins and "--" not in pins
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in pins.splitlines() if "==" in line}
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = [*PROJECT["project"]["dependencies"], *extras["onnx"], *extras["test"]]
    wanted.remove("undertone[onnx]")
    assert {word.split(">=")[0].lower().replace("_", "-") for word in wanted} <= pinned


def modules_after(code: str) -> set[str]:
    """Top-level modules in a fresh process after running `code`."""
    script = f"{code}\nimport sys; print('\\n'.join(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {line.split(".")[0] for line in done.stdout.splitlines()}


def test_the_command_answers_without_torch():
    heavy = {"torch", "transformers", "datasets", "evaluate", "sklearn", "matplotlib"}
    assert not modules_after("import undertone.cli") & heavy
    help_text = "import sys; sys.argv = ['undertone', 'crossval', '--help']\nimport undertone.cli\n"
    help_text += "try:\n    undertone.cli.main()\nexcept SystemExit: pass"
    assert not modules_after(help_text) & heavy
    assert "torch" not in modules_after("import undertone")
