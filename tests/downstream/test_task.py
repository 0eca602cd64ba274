import json

import pytest

from undertone.downstream.task import Task


def test_survives_json():
    task = Task("emotion", "classification", ("angry", "sad"), weight=0.5)
    assert Task(**json.loads(json.dumps(task.to_dict()))) == task


def test_refuses_what_cannot_be_trained():
    with pytest.raises(ValueError, match="needs two classes or more, got \\['angry'\\]"):
        Task("emotion", "classification", ("angry",))
    with pytest.raises(ValueError, match="kind must be one of"):
        Task("emotion", "ranking", ("angry", "sad"))
    with pytest.raises(ValueError, match="weight must be >= 0"):
        Task("arousal", "regression", ("arousal",), weight=-1)


def test_a_distribution_has_the_outputs_of_its_classes():
    task = Task("emotion", "distribution", ("angry", "happy", "sad"))
    assert task.has_classes and task.num_outputs == 3
    with pytest.raises(ValueError, match="needs two classes or more"):
        Task("emotion", "distribution", ("angry",))
