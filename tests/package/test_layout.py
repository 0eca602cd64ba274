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
    "pretraining",
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
    "pretraining": {"audio", "corpora", "upstream", "downstream", "training"},
    "experiments": {"audio", "corpora", "upstream", "downstream", "scoring", "training", "pretraining"},
    "report": {"audio", "corpora", "upstream", "downstream", "scoring", "training", "experiments", "inference"},
    "hub": {"audio", "upstream", "downstream"},
    "publish": {"downstream", "scoring"},
    "inference": {"audio", "upstream", "downstream"},
    "recipes": FOLDERS,
    "commands": FOLDERS,
    "cli.py": {"commands"},
    "__init__.py": FOLDERS,
}


def module_name(path: Path) -> str:
    """`undertone.training.config` for training/config.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(["undertone", *(parts[:-1] if parts[-1] == "__init__" else parts)])


MODULES = {module_name(path): path for path in SOURCES}


def imports(path: Path) -> set[str]:
    """Our own modules that a file imports: at its top, inside functions, and for its types alone."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative imports make a second copy of the package"
            module = node.module or ""
            inner = {f"{module}.{alias.name}" for alias in node.names}
            found |= inner & MODULES.keys()
            found |= {module} if inner - MODULES.keys() else set()
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & MODULES.keys() - {"undertone"}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one circle, in order; empty where there is none."""
    done: set[str] = set()

    def walk(name: str, way: list[str]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name in done:
            return []
        for other in sorted(graph[name]):
            if found := walk(other, [*way, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(graph) if (found := walk(name, []))), [])


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    home = path.relative_to(ROOT).parts[0]
    allowed = MAY_IMPORT[home] | (EVERYWHERE if home != "common" else set()) | {home}
    assert {name.split(".")[1] for name in imports(path)} <= allowed


def test_no_modules_import_each_other() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    graph = {name: imports(path) - {name} for name, path in MODULES.items()}
    assert sum(map(len, graph.values())) > 500
    assert circle(graph) == []


def test_the_folders_have_an_order() -> None:
    """What may be imported is held to MAY_IMPORT; that this itself has no circle is held here."""
    assert circle({folder: allowed - {folder} for folder, allowed in MAY_IMPORT.items()}) == []
    assert MAY_IMPORT.keys() == {path.relative_to(ROOT).parts[0] for path in SOURCES}


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
    wanted = [
        *PROJECT["project"]["dependencies"],
        *extras["audformat"],
        *extras["av"],
        *extras["onnx"],
        *extras["explain"],
        *extras["demo"],
        *extras["test"],
    ]
    wanted.remove("undertone[audformat,av,explain,onnx]")
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
    pushing = "import undertone.publish.push, undertone.scoring.results, undertone.publish.card"
    assert not modules_after(pushing) & {"torch", "transformers"}, "a model is pushed as files"
