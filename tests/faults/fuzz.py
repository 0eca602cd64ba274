"""A fuzzer guided by coverage: `python tests/faults/fuzz.py TARGET [libFuzzer's options]`, without one the names.

    pip install atheris  # no dependency of Undertone
    python tests/faults/fuzz.py audio -max_total_time=600

An input that leads to anything but a result or a
sentence of ours is written to `crash-...`; give it as the last argument to repeat it.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ["HF_HUB_OFFLINE"] = "1"

import atheris

with atheris.instrument_imports(include=["undertone", "yaml"]):
    from undertone.tests.faults.rules import attempt
    from undertone.tests.faults.targets import TARGETS, import_all

    import_all()


def main() -> None:
    """Write the seeds and the words beside each other, and fuzz."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"Give one of {', '.join(TARGETS)}.")
    target = TARGETS[sys.argv.pop(1)]
    logging.disable(logging.WARNING)

    def one(content: bytes) -> None:
        with TemporaryDirectory() as folder:
            attempt(lambda: target.run(Path(folder), content))

    with TemporaryDirectory() as home:
        seeds, words = Path(home) / "seeds", Path(home) / "words"
        seeds.mkdir()
        for number, content in enumerate(target.seeds()):
            (seeds / str(number)).write_bytes(content)
        escaped = ("".join(f"\\x{byte:02x}" for byte in word[:64]) for word in target.words)
        words.write_text("".join(f'"{word}"\n' for word in escaped))
        repeating = any(Path(word).is_file() for word in sys.argv[1:])
        atheris.Setup([*sys.argv, f"-dict={words}", *([] if repeating else [str(seeds)])], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
