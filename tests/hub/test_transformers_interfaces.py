"""Models of ours inside transformers: pipeline, the Auto classes, and transformers' own Trainer."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import Trainer, TrainingArguments, Wav2Vec2FeatureExtractor

from undertone.downstream.model import UndertoneModel
from undertone.downstream.task import Task
from undertone.tests.hub.test_to_transformers import make_model
from undertone.upstream import WaveBatch
from undertone.upstream.hf.random_weights import save_random

torch.set_num_threads(1)
EMOTION = Task("emotion", "classification", ("angry", "happy", "sad"))
AROUSAL = Task("arousal", "regression", ("arousal",))
CODE = """
import json, sys
import undertone.hub
from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForAudioClassification, pipeline
import numpy as np
wave, answers = np.load(sys.argv[1]), {}
for folder in sys.argv[2:]:
    config = AutoConfig.from_pretrained(folder)
    model = AutoModelForAudioClassification.from_pretrained(folder)
    extract = AutoFeatureExtractor.from_pretrained(folder)
    scores = pipeline("audio-classification", model=folder)(wave)
    batched = pipeline("audio-classification", model=model, feature_extractor=extract, batch_size=2)([wave, wave[:900]])
    kinds = [type(part).__name__ for part in (config, model, extract)]
    answers[folder] = {"scores": scores, "batched": batched, "kinds": kinds}
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def wave():
    return (0.1 * np.random.default_rng(3).standard_normal(9000)).astype(np.float32)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    base = save_random("tiny-wav2vec2", folder / "base")
    models = {
        "attention": make_model(base, "attention", [AROUSAL, EMOTION]),
        "fbank": make_model("fbank", "attention", [EMOTION]),
        "value": make_model(base, "linear", [AROUSAL]),
        "whisper": make_model(save_random("tiny-whisper", folder / "whisper-base"), "linear", [EMOTION]),
    }
    for name, model in models.items():
        model.save_pretrained(folder / name, head_only=name == "attention")
    return {str(folder / name): model for name, model in models.items()}


def logits(model, *waves):
    return model.predict_batch(WaveBatch.collate([torch.from_numpy(wave) for wave in waves], 16000)).logits


def test_after_one_import_transformers_knows_every_model(models, wave, tmp_path):
    np.save(tmp_path / "wave.npy", wave)
    command = [sys.executable, "-c", CODE, str(tmp_path / "wave.npy"), *models]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    answer = subprocess.run(command, capture_output=True, text=True, timeout=200, env=env)
    assert answer.returncode == 0, answer.stderr
    assert "not supported" not in answer.stderr and "trust_remote_code" not in answer.stderr
    for folder, found in json.loads(answer.stdout.splitlines()[-1]).items():
        assert found["kinds"] == ["UndertoneConfig", "UndertoneModel", "Wav2Vec2FeatureExtractor"]
        output = logits(models[folder], wave, wave[:900])
        expected = output["emotion"].softmax(-1) if "emotion" in output else output["arousal"]
        labels = EMOTION.labels if "emotion" in output else AROUSAL.labels
        for scores, row in zip([found["scores"], found["batched"][1]], expected, strict=True):
            by_label = {entry["label"]: entry["score"] for entry in scores}
            np.testing.assert_allclose([by_label[label] for label in labels], row, atol=1e-5)


def test_nothing_published_names_code(models):
    for folder in models:
        for name in ("config.json", "preprocessor_config.json"):
            with open(os.path.join(folder, name)) as file:
                assert "auto_map" not in file.read()


class Clips(torch.utils.data.Dataset):
    """Clips of three pitches, which are the labels."""

    def __init__(self, count):
        random = np.random.default_rng(0)
        times = np.arange(4000) / 16000
        self.rows = []
        for number in range(count):
            pitch, length = (150, 700, 3000)[number % 3], int(random.integers(1500, 4000))
            sound = 0.3 * np.sin(2 * np.pi * pitch * times) + 0.02 * random.standard_normal(4000)
            self.rows.append((sound[:length].astype(np.float32), number % 3))

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def collate(rows, several=False):
    extract = Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True)
    waves, classes = zip(*rows, strict=True)
    inputs = extract(list(waves), sampling_rate=16000, padding=True, return_tensors="pt")
    emotion = torch.tensor(classes)
    labels = {"emotion": emotion, "arousal": emotion / 2} if several else emotion
    return {**inputs, "labels": labels}


def arguments(folder, **changes):
    settings = {
        "output_dir": str(folder), "max_steps": 40, "per_device_train_batch_size": 6, "learning_rate": 3e-3,
        "report_to": "none", "use_cpu": True, "save_steps": 40, "logging_steps": 40, "remove_unused_columns": False,
        "disable_tqdm": True, "seed": 0,
    }  # fmt: skip
    return TrainingArguments(**settings | changes)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return make_model("fbank", "attention", [EMOTION, AROUSAL], head_options={"dropout": 0.0})


def test_transformers_trainer_trains_saves_and_evaluates(model, tmp_path):
    clips = Clips(18)
    trainer = Trainer(model, arguments(tmp_path), data_collator=collate, train_dataset=clips, eval_dataset=clips)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    after = trainer.evaluate()["eval_loss"]
    assert after < 0.3 * before
    trainer.save_model()
    kept = {path.name for path in tmp_path.iterdir()}
    assert {"checkpoint-40", "config.json", "model.safetensors", "preprocessor_config.json"} <= kept
    for folder in (tmp_path, tmp_path / "checkpoint-40"):
        again = UndertoneModel.from_pretrained(folder)
        waves = [wave for wave, _ in clips.rows]
        assert torch.equal(logits(again, *waves)["emotion"], logits(model, *waves)["emotion"])
        right = logits(again, *waves)["emotion"].argmax(-1) == torch.arange(18) % 3
        assert right.all()


def test_accumulated_steps_are_averaged(model, tmp_path):
    """Two micro-batches of 6, accumulated: the first update's gradient is that of their mean loss."""
    clips = Clips(12)
    norms = []
    for micro, steps in ((12, 1), (6, 2)):
        args = arguments(tmp_path, max_steps=1, per_device_train_batch_size=micro, gradient_accumulation_steps=steps,
                         learning_rate=0.0, logging_steps=1, save_strategy="no", max_grad_norm=1e9)  # fmt: skip
        trainer = Trainer(model, args, data_collator=collate, train_dataset=clips)
        trainer.train()
        norms.append(next(entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry))
    assert norms[1] == pytest.approx(norms[0], rel=1e-3)


def test_labels_of_several_tasks(model, tmp_path):
    clips = Clips(6)
    inputs = collate(clips.rows, several=True)
    output = logits(model, *[wave for wave, _ in clips.rows])
    value, truth = output["arousal"][:, 0], inputs["labels"]["arousal"]
    covariance = ((value - value.mean()) * (truth - truth.mean())).mean()
    spread = value.var(correction=0) + truth.var(correction=0) + (value.mean() - truth.mean()) ** 2
    expected = F.cross_entropy(output["emotion"], inputs["labels"]["emotion"]) + 1 - 2 * covariance / spread
    with torch.no_grad():
        loss = model(**inputs).loss
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=0)
    trainer = Trainer(
        model, arguments(tmp_path, max_steps=10, save_strategy="no"), train_dataset=clips,
        data_collator=lambda rows: collate(rows, several=True),
    )  # fmt: skip
    trainer.train()
    with torch.no_grad():
        assert model.eval()(**inputs).loss < 0.7 * loss


def test_labels_of_no_task_are_refused(model):
    inputs = collate(Clips(3).rows) | {"labels": {"emotoin": torch.tensor([0, 1, 2])}}
    with pytest.raises(ValueError, match="Labels of 'emotoin'; an utterance's labels are of emotion, arousal."):
        model(**inputs)
