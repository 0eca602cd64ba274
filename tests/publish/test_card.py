"""The card says what was measured and nothing else."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from huggingface_hub import ModelCard

from undertone.publish.card import confusion_file, make_card
from undertone.scoring.results import results_table
from undertone.tests.publish.example import make_results, write_model

NOT_TESTED = "The model in this repository was trained on all speakers; it was not\ntested itself."


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "model")


TRAINED = {
    "training": {
        "mode": "lora", "max_epochs": 20, "learning_rate": 1e-4, "batch_size": 16, "seed": 3,
        "command": "undertone crossval emodb --upstream microsoft/wavlm-base --out RUN mode=lora",
    },
    "cost": {"parameters": 94381958, "trained_parameters": 300000, "multiply_adds_per_second": 7.2e9,
             "real_time_factor": 0.0213, "refit_steps": 640},
    "data": {"language": "German", "hours": 0.41},
    "confusion": {"emotion": [[5, 2, 1], [0, 7, 0], [1, 1, 3]]},
    "licence": "CC0 1.0",
}  # fmt: skip
RESULTS = {
    "full": make_results(),
    "none": None,
    "no genders": make_results(per_gender={}),
    "no scores": make_results(pooled={"emotion": {"uar": None}}),
    "dependent": make_results(speaker_independent=False, protocol="split"),
    "one fold": make_results(folds=[{"name": "test"}]),
}


@pytest.mark.parametrize("results", RESULTS.values(), ids=RESULTS.keys())
def test_every_card_is_well_formed(model, results):
    text = make_card(model, results, "me/emodb-fbank")
    assert text.startswith("---\n") and text.endswith("\n")
    assert isinstance(yaml.safe_load(text.split("---")[1]), dict)
    for never in ("More information needed", "\n\n\n", "nan", "NaN", "None", "null", "inf", "{{", "{%"):
        assert never not in text
    sections = re.split(r"^## .*$", text, flags=re.MULTILINE)[1:]
    assert sections and all(section.strip() for section in sections), "a heading with nothing under it"
    ModelCard(text)  # huggingface_hub reads its own metadata back


def test_the_sections_are_those_that_were_measured(model):
    def headings(results):
        return re.findall(r"^## (.*)$", make_card(model, results, "me/x"), re.MULTILINE)

    always = ["What it predicts", "How to use it", "Licence", "Intended use", "Limitations and misuse", "Cite"]
    always.append("Versions")
    measured = ["What it was trained on", "Scores", "Recall per class (%)", "By gender of the speaker"]
    trained = [measured[0], "How it was trained", "Size and speed"]
    assert headings(None) == [*always[:2], trained[1], *always[2:]]  # of features: the model says so
    assert (
        headings(make_results())
        == always[:2] + [measured[0], "How it was trained", "Licence"] + measured[1:] + always[3:]
    )
    assert headings(make_results(**TRAINED)) == always[:2] + trained + ["Licence"] + measured[1:] + always[3:]
    assert "By gender of the speaker" not in headings(RESULTS["no genders"])
    assert "Recall per class (%)" not in headings(RESULTS["no scores"])


def test_scores_are_those_of_the_results(model):
    """The table is the one of terminal and report, and so are the sentences."""
    results = make_results()
    text = make_card(model, results, "me/x")
    titles, header, rows = results_table(results)
    assert all(f"- {line}\n" in text for line in titles[1:])
    assert all(f"| {' | '.join(row)} |\n" in text for row in [header, *rows])
    assert "| emotion | UAR | 61.2 ± 5.0 | 62.0 | 55.0 – 68.0 | 33.3 |" in text
    assert "| arousal | CCC | 0.412 ± 0.020 | 0.431 | – | 0.000 |" in text
    assert "| emotion | happy | 36.0 |" in text and "| sad |" not in text
    assert "| Task | Metric | female | male |" in text and "| emotion | UAR | 58.0 | 64.0 |" in text
    assert "| arousal | utterances | 10 | 10 |" in text and "| gender | UAR | 0" not in text


def test_the_model_index_holds_what_all_folds_give_together(model):
    """Not the mean over folds, which of a gender is that of folds without one, and of CCC is none."""
    data = ModelCard(make_card(model, make_results(), "me/emodb-fbank")).data
    assert data.model_name == "emodb-fbank" and data.pipeline_tag == "audio-classification"
    found = {(result.metric_type, result.metric_name): result.metric_value for result in data.eval_results}
    assert found["uar", "emotion: UAR, all folds pooled"] == 0.62
    assert found["ccc", "arousal: CCC, all folds pooled"] == 0.431
    assert {result.dataset_name for result in data.eval_results} == {"emodb"}


def test_one_fold_has_scores_and_no_means(model):
    text = make_card(model, RESULTS["one fold"], "me/x")
    assert "| Task | Metric | Test | 95 % interval | Chance |" in text
    assert "| emotion | UAR | 62.0 | 55.0 – 68.0 | 33.3 |" in text
    assert "over folds" not in text and "Pooled" not in text and "- 95 % intervals, for new speakers: " in text
    assert {result.metric_name for result in ModelCard(text).data.eval_results} >= {"emotion: UAR", "arousal: CCC"}


def test_label_order_and_loading(model):
    text = make_card(model, None, "me/emodb-fbank")
    assert "`emotion`: one of `angry`, `happy`, `sad` (the scores are in this order)" in text
    assert 'load_model("me/emodb-fbank")' in text and "undertone predict me/emodb-fbank" in text


def test_every_kind_of_task_is_said(tmp_path):
    """Soft labels are classes too; values over time are one a frame."""
    model = write_model(tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    soft = {"name": "mood", "kind": "distribution", "labels": ["glad", "sad"], "level": "utterance"}
    config["tasks"] = [soft, {"name": "valence", "kind": "regression", "labels": ["valence"], "level": "frame"}]
    (model / "config.json").write_text(json.dumps(config))
    text = make_card(model, None, "me/x")
    assert "- `mood`: one of `glad`, `sad` (the scores are in this order)\n" in text
    assert (
        "- `valence`: a value for every frame, on the scale of its training labels, whose ends it may exceed\n" in text
    )


def test_the_published_model_was_not_tested(model):
    assert NOT_TESTED in make_card(model, make_results(), "me/x")
    assert NOT_TESTED not in make_card(model, RESULTS["one fold"], "me/x"), "no refit: this model is the one tested"


def test_speaker_dependence_is_branded(model):
    clean = make_card(model, make_results(), "me/x")
    assert "- Speaker-independent: train, dev and test of a fold share no speaker." in clean
    assert "SPEAKER-DEPENDENT" not in clean
    for unknown in (False, None):
        text = make_card(model, make_results(speaker_independent=unknown), "me/x")
        assert "- SPEAKER-DEPENDENT: test speakers may be in training" in text
        assert "speaker-dependent" in ModelCard(text).data.tags
        assert {result.dataset_name for result in ModelCard(text).data.eval_results} == {"emodb (speaker-dependent)"}


def test_corpus_and_licence(model):
    text = make_card(model, make_results(licence="CC0", citation="Burkhardt 2005"), "me/x")
    assert "- Corpus: emodb\n- Licence of the corpus: CC0\n- Citation: Burkhardt 2005\n" in text


def test_random_weights_are_said(tmp_path, model):
    sentence = "The weights of the upstream are random, not learned."
    assert sentence in make_card(model, make_results(upstream_weights="random"), "me/x")
    hub_id = {"name": "facebook/wav2vec2-base", "commit": "0" * 40}
    random = write_model(tmp_path / "random", **hub_id, config={"undertone_random_weights": True})
    learned = write_model(tmp_path / "learned", **hub_id, config={})
    assert sentence in make_card(random, None, "me/x") and sentence not in make_card(learned, None, "me/x")
    assert ModelCard(make_card(learned, None, "me/x")).data.base_model == "facebook/wav2vec2-base"
    assert ModelCard(make_card(random, None, "me/x")).data.base_model is None


def test_no_local_path_is_published(tmp_path):
    model = write_model(tmp_path / "model", name="/home/someone/wav2vec2-mine", commit=None)
    text = make_card(model, make_results(corpus="/home/someone/calls.csv"), "me/x")
    assert "someone" not in text
    assert "`wav2vec2-mine`" in text and "- Corpus: calls.csv" in text


def test_no_two_tasks_share_a_picture(model):
    tasks = ["a b", "a_b", "a=20b", "a%20b", "a.b", "ä"]
    names = {confusion_file(task) for task in tasks}
    assert len(names) == len(tasks) and all(re.fullmatch(r"[\w=.-]+\.png", name, re.ASCII) for name in names)
    config = json.loads((model / "config.json").read_text())
    config["tasks"][0]["name"] = "a b"
    (model / "config.json").write_text(json.dumps(config))
    pictures = [confusion_file(task) for task in tasks]
    assert f"![Confusion matrix of a b]({confusion_file('a b')})" in make_card(model, None, "me/x", pictures=pictures)


def test_the_metadata_is_what_the_hub_shows(tmp_path):
    model = write_model(tmp_path / "m", kind="hf", name="microsoft/wavlm-base", commit="a" * 40, config={})
    data = ModelCard(make_card(model, make_results(**TRAINED), "me/emodb-lora", licence="cc-by-nc-4.0")).data
    assert (data.license, data.language, data.datasets) == ("cc-by-nc-4.0", ["de"], ["emodb"])
    assert (data.base_model, data.pipeline_tag) == ("microsoft/wavlm-base", "audio-classification")
    assert data.metrics == ["recall", "accuracy", "f1", "ece", "ccc"] or set(data.metrics) <= {
        "recall", "accuracy", "f1", "ece", "ccc", "rmse",
    }  # fmt: skip
    unchosen = ModelCard(make_card(model, None, "me/x")).data
    assert (unchosen.license, unchosen.license_name) == ("other", "not-chosen")


def test_how_it_was_trained_and_what_it_costs(tmp_path):
    model = write_model(tmp_path / "m", kind="hf", name="microsoft/wavlm-base", commit="a" * 40, config={})
    config = json.loads((model / "config.json").read_text())
    config["trained_on"] = {"clip_seconds": {"shortest": 1.2, "median": 2.6, "longest": 8.98}}
    (model / "config.json").write_text(json.dumps(config))
    text = make_card(model, make_results(**TRAINED), "me/emodb-lora", num_bytes=377_500_000)
    assert "- LoRA adapters (PEFT) in the upstream were trained with the head, and are merged into its weights." in text
    assert "- At most 20 epochs, 640 updates for this model, learning rate 0.0001, batches of 16, seed 3." in text
    assert "- To repeat it: `undertone crossval emodb --upstream microsoft/wavlm-base --out RUN mode=lora`" in text
    assert "| Parameters | 94,381,958 |" in text and "| Weights in this repository | 377.5 MB |" in text
    assert "| emotion | happy | 7 |" in text and "- 0.41 hours; clips of 1.2 to 8.98 s, in the median 2.6 s\n" in text
    one_fold = make_card(tmp_path / "m", make_results(**TRAINED, folds=[{"name": "test"}]), "me/x")
    assert "| emotion | happy | 7 |" not in one_fold, "its confusion matrix counts test utterances"
    assert "(model.predict" in text and '# for example: [{"file": "speech.wav"' in text
    assert "the corpus: CC0 1.0" in text and "has chosen no licence for this model" in text
    assert "@misc{emodb-lora," in text and "huggingface.co/me/emodb-lora" in text
    solved = make_card(model, make_results(**TRAINED, selected_by={"per_task": True, "metrics": {}}), "me/x")
    assert "A solver fitted the head to all training utterances at once; seed 3." in solved
    assert "epochs" not in solved and "- To repeat it: " in solved
    for mode, sentence in (("frozen", "The upstream was frozen: only"), ("finetune", "was fine-tuned together with")):
        trained = TRAINED | {"training": TRAINED["training"] | {"mode": mode}}
        assert sentence in make_card(model, make_results(**trained), "me/x")


def test_a_front_end_that_learns_nothing_is_said_to(tmp_path):
    text = make_card(write_model(tmp_path / "m", kind="class", name="functionals"), make_results(), "me/x")
    assert "the acoustic features `functionals`, and the\nhead" in text
    assert "- The features are computed, not learned: only the head learned." in text
    assert "upstream was frozen" not in text
    said = make_card(write_model(tmp_path / "n"), make_results(citation="none: a synthetic corpus"), "me/x")
    assert "Citation: none" not in said


def test_the_ends_of_a_scale_are_said_where_there_are_any(tmp_path):
    model = write_model(tmp_path / "m")
    config = json.loads((model / "config.json").read_text())
    config["tasks"][2]["limits"] = [0.0, 1.0]
    (model / "config.json").write_text(json.dumps(config))
    assert "- `arousal`: a value, 0.0 to 1.0\n" in make_card(model, None, "me/x")
