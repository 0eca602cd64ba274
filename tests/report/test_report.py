from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from undertone.common.files import read_json, write_json
from undertone.corpora.manifest import Manifest
from undertone.downstream.task import Task
from undertone.experiments.embeddings import save_embeddings
from undertone.report.report import write_report
from undertone.scoring import plots
from undertone.scoring.metrics import uar
from undertone.scoring.predictions import Predictions
from undertone.scoring.results import results_table, summarise, verdict
from undertone.training.config import RunConfig
from undertone.training.settings import command_line, make_config, save_config

EMOTION = Task("emotion", "classification", ("angry", "bored", "disgusted", "fearful", "happy", "neutral", "sad"))
GENDER = Task("gender", "classification", ("female", "male"))
AROUSAL = Task("arousal", "regression", ("arousal",))
SPEAKERS = {"03": "male", "08": "female", "09": "female", "10": "male", "11": "male"}
SPEAKERS |= {"12": "male", "13": "female", "14": "female", "15": "male", "16": "female"}


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return (powers / powers.sum(1, keepdims=True)).astype(np.float32)


def fold(speaker: str, tasks: tuple[Task, ...], rng: np.random.Generator, size: int = 53) -> Predictions:
    """A tested fold of one speaker: likely classes mixed up more, as a real model does."""
    scores, targets = {}, {}
    for task in tasks:
        if task.kind == "regression":
            target = rng.beta(2, 2, size)
            scores[task.name] = (0.3 + 0.5 * target + rng.normal(0, 0.12, size)).astype(np.float32)[:, None]
            targets[task.name] = np.where(rng.random(size) < 0.1, np.nan, target).astype(np.float32)
            continue
        classes = len(task.labels)
        of_gender = np.full(size, GENDER.labels.index(SPEAKERS[speaker]))
        target = of_gender if task.name == "gender" else rng.choice(classes, size, p=rng.dirichlet(np.full(classes, 9)))
        near = -0.5 * np.abs(np.subtract.outer(np.arange(classes), np.arange(classes)))
        scores[task.name] = softmax(1.9 * np.eye(classes)[target] + near[target] + rng.normal(0, 1.3, (size, classes)))
        targets[task.name] = target
    return Predictions(
        tasks=tasks,
        ids=[f"{speaker}{i:03}" for i in range(size)],
        folds=[speaker] * size,
        speakers=[speaker] * size,
        genders=[SPEAKERS[speaker]] * size,
        scores=scores,
        targets=targets,
    )


def history(rng: np.random.Generator, tasks: tuple[Task, ...], epochs: int) -> list[dict[str, Any]]:
    metric = {"classification": "uar", "regression": "ccc"}
    records = []
    for epoch in range(1, epochs + 1):
        grown = 1 - np.exp(-epoch / 6)
        dev = {task.name: {metric[task.kind]: 0.15 + 0.6 * grown + rng.normal(0, 0.015)} for task in tasks}
        loss = 1.9 * (1 - 0.8 * grown) + rng.normal(0, 0.03)
        records.append({"step": 14 * epoch, "epoch": epoch, "lr": 1e-3 * grown, "train_loss": loss, "dev": dev})
    return records


def make_run(
    folder: Path,
    tasks: tuple[Task, ...] = (EMOTION, GENDER, AROUSAL),
    num_layers: int = 13,
    info: dict[str, Any] | None = None,
    config: RunConfig | None = None,
) -> Path:
    """The files of a finished run, from a seeded generator."""
    rng = np.random.default_rng(7)
    config = config or RunConfig(corpus="emodb", root="data/emodb", upstream="microsoft/wavlm-base-plus", seed=3)
    per_fold = [(f"speaker {speaker}", fold(speaker, tasks, rng)) for speaker in SPEAKERS]
    results = summarise(
        per_fold,
        {
            "corpus": "emodb",
            "upstream": config.upstream,
            "head": config.head,
            "protocol": "speaker",
            "speaker_independent": True,
            "upstream_weights": "pretrained",
            "manifest_hash": f"{rng.integers(2**63):016x}",
            "cost": {
                "parameters": int(rng.integers(94_000_000, 95_000_000)),
                "trained_parameters": int(rng.integers(300_000, 400_000)),
                "multiply_adds_per_second": int(rng.integers(6_000_000_000, 7_000_000_000)),
                "real_time_factor": float(rng.uniform(0.02, 0.04)),
            },
            "versions": {"python": "3.11"},
            **(info or {}),
        },
    )
    peak = -0.5 * (np.arange(num_layers) - 0.6 * num_layers) ** 2 / num_layers
    for entry, (name, found) in zip(results["folds"], per_fold, strict=True):
        centres = rng.normal(0, 1, (len(tasks[0].labels), 16))
        of_class = centres[np.nan_to_num(found.targets[tasks[0].name]).astype(int) % len(centres)]
        save_embeddings(folder / "folds" / name, found.ids, of_class + rng.normal(0, 0.6, (len(found), 16)))
        records = history(rng, tasks, int(rng.integers(15, 26)))
        best = max(records, key=lambda record: max(record["dev"][tasks[0].name].values()))
        entry |= {
            "best_step": best["step"],
            "layer_weights": softmax(peak + rng.normal(0, 0.2, (1, num_layers)))[0].tolist(),
        }
        write_json(folder / "folds" / name / "history.json", records)
        write_json(folder / "folds" / name / "fold.json", {"best_step": best["step"]})
    write_json(folder / "results.json", results)
    Predictions.concat([predictions for _, predictions in per_fold]).save(folder / "predictions.parquet")
    save_config(config, folder / "config.json")
    return folder


class Page(HTMLParser):
    """Tags with their attributes, texts, and whether every opened tag is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "link", "br", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())

    def has(self, text: str) -> bool:
        return text in self.texts


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "emodb")


@pytest.fixture(scope="module")
def html(run: Path) -> str:
    return write_report(run).read_text(encoding="utf-8")


def test_page_is_whole_and_refers_to_nothing_outside(html: str) -> None:
    page = Page(html)
    assert page.open == []
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.tags}
    ids = [values["id"] for _, values in page.tags if "id" in values]
    assert len(ids) == len(set(ids))
    for _, values in page.tags:
        for name in ("href", "src", "xlink:href"):
            assert (values.get(name) or "#").startswith("#")
    assert "http" not in html
    assert "@import" not in html
    assert set(re.findall(r"url\((.)", html)) <= {"#"}
    assert html.count("<svg ") == 7
    assert "#0" + "10101" not in html  # every stand-in colour became a variable


def test_page_shows_the_numbers_of_the_results(run: Path, html: str) -> None:
    page, results = Page(html), read_json(run / "results.json")
    assert page.has(verdict(results))
    pooled = results["pooled"]
    assert page.has(f"{100 * pooled['emotion']['uar']:.1f}")
    assert page.has(f"{pooled['arousal']['ccc']:.3f}")
    for name, value in pooled["emotion"]["recall"].items():
        assert page.has(name)
        assert page.has(f"{100 * value:.1f}")
    for entry in results["folds"]:
        assert page.has(entry["name"])
        assert page.has(f"{100 * entry['metrics']['emotion']['uar']:.1f}")
    for gender in ("female", "male"):
        assert page.has(f"{100 * results['per_gender'][gender]['emotion']['uar']:.1f}")
    for row in results["confusion"]["emotion"]:
        assert page.has(str(max(row)))
        assert page.has(f"{100 * max(row) / sum(row):.0f}")
    assert page.has(command_line(read_json(run / "config.json"), run))
    assert page.has("microsoft/wavlm-base-plus")  # among the settings


def test_markdown_has_the_same_tables(run: Path, html: str) -> None:
    text, results = (run / "report.md").read_text("utf-8"), read_json(run / "results.json")
    assert verdict(results) in text
    lines = text.splitlines()
    assert f"| {' | '.join(results_table(results)[2][0])} |" in lines
    for label, row in zip(EMOTION.labels, results["confusion"]["emotion"], strict=True):
        assert f"| {label} | {' | '.join(map(str, row))} |" in lines
    assert command_line(read_json(run / "config.json"), run) in lines
    tables = "\n".join(lines).split("\n\n")
    for table in (part.splitlines() for part in tables if part.startswith("|")):
        assert len({row.replace("\\|", "").count("|") for row in table}) == 1
    assert "\n\n\n" not in text


def test_speakers_have_bars_of_their_own_where_folds_hold_several(tmp_path: Path, run: Path, html: str) -> None:
    assert "<h2>Speakers</h2>" not in html  # each fold has one: the folds' bars say it already
    run = shutil.copytree(run, tmp_path / "run")
    predictions = Predictions.load(run / "predictions.parquet")
    halves = [f"{name}-{place % 2}" for place, name in enumerate(predictions.speakers)]
    replace(predictions, speakers=halves).save(run / "predictions.parquet")
    page = Page(write_report(run).read_text("utf-8"))
    assert page.has("Speakers")
    rows = np.array(halves) == "08-1"
    part = predictions.select(rows)
    value = uar(part.targets["emotion"], part.predicted(EMOTION), 7)
    assert page.texts[page.texts.index("08-1") :].index(f"{100 * value:.1f}") < 8
    assert page.has("by speaker")  # and two colours in the map of a fold


def test_raters_stand_beside_the_model(tmp_path: Path, run: Path) -> None:
    run = shutil.copytree(run, tmp_path / "run")
    predictions = Predictions.load(run / "predictions.parquet")
    votes = {"sad": 3.0, "happy": 1.0}
    sound = {"duration": 1.0, "size": 1, "mtime_ns": 1}
    rows = [
        {"id": name, "path": f"{name}.wav", "votes": votes, "audio_hash": name, **sound} for name in predictions.ids
    ]
    Manifest.from_rows("emodb", rows).save(run / "manifest")
    page = Page(write_report(run).read_text("utf-8"))
    start = page.texts.index("with another rater")
    shown = [float(text) for text in page.texts[start : start + 40] if re.fullmatch(r"\d+\.\d", text)][:3]
    said = predictions.predicted(EMOTION)
    share = np.mean(np.select([said == 6, said == 4], [0.75, 0.25], 0.0))
    assert shown == [50.0, 75.0, pytest.approx(100 * share, abs=0.06)]
    assert "another rater" in (run / "report.md").read_text("utf-8")


def test_the_data_section_counts_the_manifest(tmp_path: Path, run: Path, html: str) -> None:
    assert "<h2>Data</h2>" not in html  # there is no manifest, as of an evaluation
    run = shutil.copytree(run, tmp_path / "run")
    predictions = Predictions.load(run / "predictions.parquet")
    labels = [EMOTION.labels[place] for place in predictions.targets["emotion"]]
    zipped = zip(predictions.ids, predictions.speakers, predictions.genders, labels, strict=True)
    rows = [
        {"id": name, "path": f"{name}.wav", "speaker": speaker, "gender": gender, "emotion": label}
        | {"duration": 1.0 + 0.01 * place, "size": 1, "mtime_ns": 1, "audio_hash": name}
        for place, (name, speaker, gender, label) in enumerate(zipped)
    ]
    Manifest.from_rows("emodb", rows).save(run / "manifest")
    html = write_report(run).read_text("utf-8")
    page = Page(html)
    seconds = [row["duration"] for row in rows]
    assert page.has("530") and page.has(f"{sum(seconds) / 3600:.2f}") and page.has("5 speakers")
    assert page.has(f"1.0 – {np.median(seconds):.1f} – {max(seconds):.1f} s")
    sad = [row for row in rows if row["emotion"] == "sad"]
    women = sum(row["gender"] == "female" for row in sad)
    hours, mean = sum(row["duration"] for row in sad) / 3600, np.mean([row["duration"] for row in sad])
    line = ["sad", len(sad), women, len(sad) - women, 10, f"{hours:.2f}", f"{mean:.1f}"]
    assert f"| {' | '.join(map(str, line))} |" in (run / "report.md").read_text("utf-8").splitlines()
    assert html.count("<svg ") == 8


def test_every_table_can_be_copied(run: Path, html: str) -> None:
    blocks = [unescape(found) for found in re.findall(r"<pre>(.*?)</pre>", html, flags=re.DOTALL)]
    latex = [block for block in blocks if r"\begin{tabular}" in block]
    assert len(latex) == html.count('<details class="copy">') == 5  # results, two confusions, folds, gender
    row = read_json(run / "results.json")["confusion"]["emotion"][0]
    assert any(f"angry & {' & '.join(map(str, row))} & " in block for block in latex)
    assert any(block.startswith("Task,Metric,Mean over folds,Pooled,") for block in blocks)


def test_no_curve_of_a_single_step(tmp_path: Path, run: Path) -> None:
    run = shutil.copytree(run, tmp_path / "run")
    for path in run.glob("folds/*/history.json"):
        write_json(path, read_json(path)[:1])
    html = write_report(run).read_text("utf-8")
    assert "Dev score" not in html and "Training loss" not in html and "Calibration" in html


def test_same_run_same_bytes(run: Path, html: str) -> None:
    assert write_report(run).read_text(encoding="utf-8") == html


def test_names_cannot_become_markup(tmp_path: Path) -> None:
    bad = "<script>alert('x')</script> & $x$"
    task = replace(EMOTION, labels=(bad, *EMOTION.labels[1:]))
    html = write_report(make_run(tmp_path, (task, GENDER), info={"corpus": bad, "warnings": [bad]})).read_text("utf-8")
    page = Page(html)
    assert page.open == []
    assert "<script" not in html
    assert page.has(bad)


def test_what_the_numbers_are_is_said_at_the_top(tmp_path: Path, html: str) -> None:
    assert 'class="warn"' not in html
    info = {
        "speaker_independent": False,
        "upstream_weights": "random",
        "commands": ["undertone crossval emodb seed=1"],
    }
    page = write_report(make_run(tmp_path, (EMOTION,), info=info)).read_text("utf-8")
    assert re.search(r'<li class="warn">SPEAKER-DEPENDENT: ', page)
    assert re.search(r'<li class="warn">RANDOM-WEIGHT UPSTREAM: ', page)
    assert "<pre>undertone crossval emodb seed=1</pre>" in page


def test_one_layer_and_a_regression_alone(tmp_path: Path) -> None:
    html = write_report(make_run(tmp_path, (AROUSAL,), num_layers=1)).read_text("utf-8")
    assert "Layer weights" not in html
    assert "Confusion" not in html
    assert "Calibration" not in html
    assert "True and predicted arousal" in html
    assert html.count("<svg ") == 3


def test_values_that_are_not_defined_are_dashes(tmp_path: Path, run: Path) -> None:
    run = shutil.copytree(run, tmp_path / "run")
    results = read_json(run / "results.json")
    results["folds"][0]["metrics"]["emotion"]["uar"] = None
    results["pooled"]["emotion"]["recall"]["sad"] = None
    results["ci95"]["emotion"]["uar"] = [None, None]
    results["confusion"]["emotion"][6] = [0] * 7
    write_json(run / "results.json", results)
    assert Page(write_report(run).read_text("utf-8")).texts.count("–") >= 9


@pytest.mark.parametrize("missing", ["results.json", "predictions.parquet", "folds/speaker 08/history.json"])
def test_an_unfinished_run_is_a_sentence_with_the_command_that_resumes_it(
    tmp_path: Path, run: Path, missing: str
) -> None:
    run = shutil.copytree(run, tmp_path / "my run", ignore=shutil.ignore_patterns("report.html"))
    (run / missing).unlink()
    with pytest.raises(ValueError, match=f"is not finished: {missing} missing, 10 folds done") as error:
        write_report(run)
    command = str(error.value).partition("Resume it with: ")[2]
    assert command.startswith("undertone crossval emodb --root data/emodb --upstream microsoft/wavlm-base-plus ")
    assert str(run) in shlex.split(command)
    assert not (run / "report.html").exists()


def test_no_run_and_no_config_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="There is no run at .*nothing"):
        write_report(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"results\.json, .*missing, 0 folds done.*crossval CORPUS --out"):
        write_report(tmp_path)


CONFIGS = [
    RunConfig(corpus="synthetic"),
    RunConfig(corpus="my data.csv", root="a b", tasks=("emotion", "arousal"), strict=True, layer_norm=True),
    RunConfig(corpus="emodb", upstream="mfcc", upstream_options={"num_mfcc": 13}, head_options={"dropout": 0.1}),
    RunConfig(corpus="emodb", learning_rate=3e-5, num_folds=4, protocol="groups", task_weights={"gender": 0.2}),
]


@pytest.mark.parametrize("config", CONFIGS, ids=range(len(CONFIGS)))
def test_command_line_makes_the_same_config(config: RunConfig, tmp_path: Path) -> None:
    save_config(config, tmp_path / "config.json")
    words = shlex.split(command_line(read_json(tmp_path / "config.json"), Path("runs/x")))
    assert words[:2] == ["undertone", "crossval"]
    flags, rest = {"corpus": words[2]}, words[3:]
    while rest and rest[0].startswith("--"):
        flags[rest[0][2:]], rest = rest[1], rest[2:]
    assert flags.pop("out") == "runs/x"
    assert make_config(flags, rest) == config


def test_one_fold_is_made_again_by_train(run: Path) -> None:
    words = shlex.split(command_line(read_json(run / "config.json"), run, "speaker 08"))
    assert words[:3] == ["undertone", "train", "emodb"] and words[words.index("--fold") + 1] == "speaker 08"


def test_layer_weights_are_drawn_as_their_mean() -> None:
    weights = np.array([[0.1, 0.2, 0.7], [0.3, 0.4, 0.3]])
    bar = r'<path d="M \S+ (\S+)\nL \S+ \S+\nL \S+ (\S+)\n[^"]*" [^>]*style="fill: var\(--accent\)'
    bars = re.findall(bar, plots.layer_weights(weights))
    heights = np.array([float(bottom) - float(top) for bottom, top in bars])
    np.testing.assert_allclose(heights / heights.sum(), [0.2, 0.3, 0.5], atol=1e-3)


def test_layers_that_were_tried_have_a_plot_of_their_dev_scores(tmp_path: Path) -> None:
    """Per fold and layer the best of the other values, each a mean over seeds; the layer sum as a dashed line."""
    run = make_run(tmp_path)
    results = read_json(run / "results.json")
    folds, rng = results["folds"], np.random.default_rng(0)
    scores = rng.uniform(0.2, 0.9, (len(folds), 4, 2, 2))  # fold, layer (the last is the sum), rate, seed
    results["sweep"] = {"values": {"layers": [0, 1, 2, "sum"], "learning_rate": [0.1, 0.01]}, "chosen": {}}
    for fold_scores, entry in zip(scores, folds, strict=True):
        entry["trials"] = [
            {"layers": layer, "learning_rate": rate, "seed": seed, "dev_score": fold_scores[place, number, seed]}
            for place, layer in enumerate([0, 1, 2, "sum"])
            for number, rate in enumerate([0.1, 0.01])
            for seed in (0, 1)
        ]
    write_json(run / "results.json", results)
    drawn: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "layer_scores", lambda *given: drawn.update(given=given) or "<svg></svg>")
        html = write_report(run).read_text("utf-8")
    layers, found, whole = drawn["given"]
    best = scores.mean(-1).max(-1)  # (folds, 4)
    assert layers == [0, 1, 2]
    np.testing.assert_allclose(found, best[:, :3])
    assert whole == pytest.approx(best[:, 3].mean())
    assert "Dev score of each layer" in html and "Layer weights" not in html
    svg = plots.layer_scores(layers, found, whole)
    assert svg.startswith("<svg") and "layer (0 = input of the first block)" in svg
