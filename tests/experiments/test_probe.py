"""The fresh probe: it finds what is there, and nothing where there is nothing."""

import numpy as np
import pytest

from undertone.corpora.manifest import Utterance
from undertone.downstream.task import Task
from undertone.experiments.probe import leakage

SPEAKERS = ("a", "b", "c", "rare")
TASK = Task("speaker", "classification", SPEAKERS, adversarial=True)


def utterances(names):
    return [Utterance(id=str(number), path="", speaker=name) for number, name in enumerate(names)]


def test_a_linear_code_is_found_and_noise_is_not():
    generator = np.random.default_rng(0)
    names = list("abc") * 60
    noise = generator.normal(size=(180, 8))
    code = noise.copy()
    code[:, 3] += 4.0 * np.array(["abc".index(name) for name in names])
    assert leakage(code, TASK, utterances(names))["uar"] > 0.9
    found = leakage(noise, TASK, utterances(names))
    assert found["uar"] == pytest.approx(1 / 3, abs=0.12) and found["chance"] == pytest.approx(1 / 3)


def test_missing_and_rare_classes_are_left_out():
    names = ["a", "b"] * 10 + ["rare", None]
    embeddings = np.array([[float(name == "b")] for name in names])
    assert leakage(embeddings, TASK, utterances(names)) == {"uar": 1.0, "chance": 0.5}
    assert leakage(embeddings[:1], TASK, utterances(["a"])) is None
