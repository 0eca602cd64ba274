"""On a phone nothing of a page is cut, and nothing is wider than the screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from undertone.common.files import write_json
from undertone.corpora.manifest import Manifest
from undertone.report.explain_page import write_explanation
from undertone.report.report import write_report
from undertone.scoring.predictions import Predictions
from undertone.tests.report.test_explain_page import explanation
from undertone.tests.report.test_report import make_run

# Elements that end outside the screen, and those with more in them than they show.
CUT = """() => [...document.querySelectorAll("main, main *")].filter(element => {
    const box = element.getBoundingClientRect();
    if (!box.width || element.closest(".copy, svg")) return false;
    const hides = getComputedStyle(element).overflowX != "visible" && element.scrollWidth > element.clientWidth + 1;
    return hides || box.right > document.documentElement.clientWidth + 0.5 || box.left < -0.5;
}).map(element => element.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pages")
    run = make_run(folder / "run")
    found = Predictions.load(run / "predictions.parquet")
    sound = {"duration": 2.5, "size": 1, "mtime_ns": 1}
    rows = [
        {"id": name, "path": f"{name}.wav", "speaker": speaker, "gender": gender, "emotion": "sad", "audio_hash": name}
        for name, speaker, gender in zip(found.ids, found.speakers, found.genders, strict=True)
    ]
    Manifest.from_rows("emodb", [row | sound for row in rows]).save(run / "manifest")
    entry = {"metrics": {"uar": 0.61}, "per_gender": {"female": 0.6, "male": 0.62}}
    change = {"difference": -0.1, "ci95": [-0.2, 0.0], "p": 0.05}
    conditions = [{"kind": "clean", "name": "clean"} | entry]
    conditions += [{"kind": "codec", "name": "Vorbis, lowest quality"} | entry | change]
    tested = {"task": "emotion", "metric": "uar", "seed": 0, "conditions": conditions}
    write_json(run / "robustness.json", tested)
    return [write_report(run), write_explanation(explanation(), folder / "explained")[0]]


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 700, 1280])
def test_nothing_is_cut(pages: list[Path], browser: Any, width: int) -> None:
    for path in pages:
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.goto(path.as_uri())
        page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        assert page.evaluate(CUT) == []
        page.close()
