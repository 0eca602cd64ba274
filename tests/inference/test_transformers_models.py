"""Models that transformers saved, in `predict` and `evaluate`: transformers' own pipeline is the reference."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import nn
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    AutoConfig,
    AutoModel,
    AutoModelForAudioClassification,
    BertConfig,
    BertModel,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    Wav2Vec2PreTrainedModel,
    pipeline,
)

from undertone.audio.read import read_audio
from undertone.common.console import Display
from undertone.downstream.transformers_model import TransformersModel
from undertone.experiments.evaluate_model import evaluate_model
from undertone.hub.to_transformers import to_transformers
from undertone.inference.predict import Predictor, load_model
from undertone.scoring.compare import compare_runs
from undertone.tests.cli.commands import undertone
from undertone.tests.hub.test_to_transformers import TASKS, make_model
from undertone.upstream.hf.random_weights import save_random

torch.set_num_threads(1)
FAMILIES = ("tiny-wav2vec2", "tiny-wav2vec2-layer", "tiny-hubert", "tiny-wavlm", "tiny-data2vec", "tiny-unispeech",
            "tiny-unispeech-sat", "tiny-sew", "tiny-sew-d", "tiny-conformer", "tiny-w2v-bert", "tiny-whisper",
            "tiny-ast")  # fmt: skip
SHORT = {0: "neu", 1: "hap", 2: "ang", 3: "sad"}
QUIET = Display(quiet=True)


def save_classifier(architecture: str, folder: Path, labels: dict[int, str] = SHORT, **settings) -> Path:
    """A native model of a family with random weights and a head for these labels, as transformers saves it."""
    if architecture == "tiny-ast":
        sizes = {"num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
        config = ASTConfig(**sizes, max_length=128)
        ASTFeatureExtractor(max_length=128).save_pretrained(folder)
    else:
        config = AutoConfig.from_pretrained(save_random(architecture, folder))
        (folder / "model.safetensors").unlink()
    for key, value in {"id2label": labels, "label2id": {label: i for i, label in labels.items()}, **settings}.items():
        setattr(config, key, value)
    torch.manual_seed(1)
    model = AutoModelForAudioClassification.from_config(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.startswith(("projector", "classifier")):
                weight.normal_(0, 0.3)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[Path]:
    """Noises of three lengths, none longer than AST's 1.28 s."""
    folder, random = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    for number, length in enumerate((16000, 4321, 9001)):
        soundfile.write(folder / f"{number}.wav", 0.1 * random.standard_normal(length) + 0.02, 16000, subtype="FLOAT")
    return sorted(folder.iterdir())


def scores_of(rows, task="emotion"):
    return np.array([[row[task]["scores"][label] for label in ("neu", "hap", "ang", "sad")] for row in rows])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_as_in_transformers_alone_and_in_a_batch(family, clips, tmp_path):
    folder = save_classifier(family, tmp_path / "model")
    model = load_model(folder, device="cpu")
    assert isinstance(model.model, TransformersModel) and model.tasks[0].labels == ("neu", "hap", "ang", "sad")
    alone, together = (scores_of(model.predict(clips, batch_seconds=seconds)) for seconds in (0, 60))
    classify = pipeline("audio-classification", model=str(folder), device="cpu")
    found = [{item["label"]: item["score"] for item in classify(read_audio(clip, 16000).numpy())} for clip in clips]
    expected = [[scores[label] for label in ("neu", "hap", "ang", "sad")] for scores in found]
    np.testing.assert_allclose(alone, expected, atol=1e-5)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert np.ptp(alone, axis=0).max() > 1e-4, "else any answer would do"


@pytest.mark.data
def test_ten_clips_of_emodb_have_the_same_scores_native_and_as_ours(data, tmp_path):
    clips = sorted((data / "emodb").rglob("*.wav"))[:10]
    ours = make_model(save_random("tiny-wav2vec2", tmp_path / "base"), "linear", TASKS)
    native = to_transformers(ours, tmp_path / "native", "emotion")
    assert native.class_name == "Wav2Vec2ForSequenceClassification" and len(clips) == 10
    rows, theirs = Predictor(ours).predict(clips), load_model(native.folder, device="cpu").predict(clips)
    for row, other in zip(rows, theirs, strict=True):
        assert other["emotion"]["scores"] == pytest.approx(row["emotion"]["scores"], abs=1e-5)
    assert {row["file"] for row in theirs} == set(map(str, clips))


class AudeeringHead(nn.Module):
    """As on the card of audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim."""

    def __init__(self, config):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(config.final_dropout)
        self.out_proj = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, features):
        x = torch.tanh(self.dense(self.dropout(features)))
        return self.out_proj(self.dropout(x))


class Wav2Vec2ForSpeechClassification(Wav2Vec2PreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.wav2vec2 = Wav2Vec2Model(config)
        self.classifier = AudeeringHead(config)
        self.post_init()

    def forward(self, input_values):
        return self.classifier(self.wav2vec2(input_values)[0].mean(dim=1))


def save_audeering(folder: Path, labels: dict[int, str]) -> nn.Module:
    config = AutoConfig.from_pretrained(save_random("tiny-wav2vec2-layer", folder))
    config.id2label, config.label2id = labels, {label: i for i, label in labels.items()}
    config.pooling_mode, config.finetuning_task = "mean", "wav2vec2_reg"
    torch.manual_seed(2)
    model = Wav2Vec2ForSpeechClassification(config).eval()
    nn.init.normal_(model.classifier.out_proj.weight, std=0.3)
    model.save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["Wav2Vec2ForSpeechClassification"]
    return model


def test_dimensions_of_audeerings_layout(clips, tmp_path):
    reference = save_audeering(tmp_path / "model", {0: "arousal", 1: "dominance", 2: "valence"})
    model = load_model(tmp_path / "model", device="cpu")
    assert [(task.name, task.kind) for task in model.tasks] == [
        ("arousal", "regression"), ("dominance", "regression"), ("valence", "regression"),
    ]  # fmt: skip
    extract = Wav2Vec2FeatureExtractor.from_pretrained(tmp_path / "model")
    for clip, row in zip(clips, model.predict(clips, batch_seconds=60), strict=True):
        values = extract(read_audio(clip, 16000).numpy(), sampling_rate=16000, return_tensors="pt").input_values
        with torch.inference_mode():
            expected = reference(values)[0].tolist()
        assert [row["arousal"], row["dominance"], row["valence"]] == pytest.approx(expected, abs=1e-5)
        assert max(expected) - min(expected) > 0.01


def test_the_same_head_with_classes(clips, tmp_path):
    reference = save_audeering(tmp_path / "model", {0: "anger", 1: "happiness", 2: "sadness"})
    row = load_model(tmp_path / "model", device="cpu").predict(clips[:1])[0]
    values = Wav2Vec2FeatureExtractor.from_pretrained(tmp_path / "model")(
        read_audio(clips[0], 16000).numpy(), sampling_rate=16000, return_tensors="pt"
    ).input_values
    with torch.inference_mode():
        expected = reference(values)[0].softmax(-1).tolist()
    assert list(row["emotion"]["scores"].values()) == pytest.approx(expected, abs=1e-5)


def test_what_cannot_be_used_is_named(tmp_path, clips):
    tiny = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8, "vocab_size": 9}
    BertModel(BertConfig(**tiny)).save_pretrained(tmp_path / "bert")
    with pytest.raises(ValueError, match=r"holds a 'bert' model \(BertModel\), which classifies no audio. What can be"):
        load_model(tmp_path / "bert")
    base = save_random("tiny-hubert", tmp_path / "base")
    with pytest.raises(
        ValueError, match=rf"\(HubertModel\) without a classifier of audio. .*--upstream {base}` trains"
    ):
        load_model(base)
    several = save_classifier("tiny-wavlm", tmp_path / "several", problem_type="multi_label_classification")
    with pytest.raises(ValueError, match="gives several labels at once"):
        load_model(several)
    (save_classifier("tiny-wavlm", tmp_path / "bare") / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match="Cannot read preprocessor_config.json of .*It says how the model is fed"):
        load_model(tmp_path / "bare")


def test_a_clip_that_the_extractor_would_cut_is_an_error_of_its_row(tmp_path, clips):
    soundfile.write(tmp_path / "long.wav", np.zeros(24000), 16000)
    model = load_model(save_classifier("tiny-ast", tmp_path / "model"), device="cpu")
    long, short = model.predict([tmp_path / "long.wav", clips[0]])
    assert "takes at most 1.295 s at once, got 1.5 s. Cut it into windows" in long["error"]
    assert "emotion" in short


def test_gender_and_unknown_labels_are_tasks_of_their_own(tmp_path):
    for labels, task in (({0: "female", 1: "male"}, "gender"), ({0: "yes", 1: "no"}, "label")):
        assert load_model(save_classifier("tiny-wavlm", tmp_path / task, labels)).tasks[0].name == task


@pytest.fixture(scope="module")
def native(tmp_path_factory) -> Path:
    return save_classifier("tiny-wavlm", tmp_path_factory.mktemp("native") / "model")


MAP = {"neutral": "neu", "happy": "hap", "angry": "ang", "sad": "sad"}


def test_evaluated_in_the_corpus_words_and_compared(native, small_corpus, tmp_path):
    """The paired comparison finds the same classes in both: those of the corpus."""
    model = load_model(native, device="cpu")
    other = load_model(save_classifier("tiny-hubert", tmp_path / "other"), device="cpu")
    results = evaluate_model(
        model.model, str(small_corpus), None, "cpu", QUIET, label_map=MAP, out=tmp_path / "first"
    )  # fmt: skip
    other.model.model.config.undertone_random_weights = False  # as a model with learned weights
    second = evaluate_model(other.model, str(small_corpus), None, "cpu", QUIET, label_map=MAP, out=tmp_path / "second")
    assert (results["upstream_weights"], second["upstream_weights"]) == ("random", "pretrained")
    assert results["tasks"][0]["labels"] == ["angry", "happy", "neutral", "sad"]
    assert results["head"] == "WavLMForSequenceClassification"
    rows = list(csv.DictReader(small_corpus.open()))
    found = scores_of(model.predict([small_corpus.parent / row["file"] for row in rows])).argmax(1)
    truth = np.array([["neutral", "happy", "angry", "sad"].index(row["emotion"]) for row in rows])
    assert results["pooled"]["emotion"]["wa"] == pytest.approx((found == truth).mean())
    comparison = compare_runs([tmp_path / "first", tmp_path / "second"])
    (paired,) = comparison["tasks"]["emotion"]
    assert paired["baseline"] == pytest.approx(results["pooled"]["emotion"]["uar"])
    assert np.isfinite(paired["ci95"]).all() or paired["note"]


def test_labels_without_a_name_are_emotions_once_they_are_mapped(small_corpus, tmp_path):
    numbered = save_classifier("tiny-wavlm", tmp_path / "model", {number: f"LABEL_{number}" for number in range(4)})
    words = {"neutral": "LABEL_0", "happy": "LABEL_1", "angry": "LABEL_2", "sad": "LABEL_3"}
    model = TransformersModel.from_pretrained(numbered)
    results = evaluate_model(model, str(small_corpus), None, "cpu", QUIET, label_map=words)
    assert results["tasks"][0]["name"] == "emotion" and results["pooled"]["emotion"]["num"] == 64
    with pytest.raises(
        ValueError, match="No utterance of .* has a label that the model knows .* Map the corpus' labels"
    ):
        evaluate_model(model, str(small_corpus), None, "cpu", QUIET)


def test_a_label_that_the_model_has_not_is_refused(native, small_corpus):
    model = load_model(native, device="cpu").model
    with pytest.raises(ValueError, match="--map angry=agn: the model has no emotion 'agn'. Did you mean 'ang'?"):
        evaluate_model(model, str(small_corpus), None, "cpu", QUIET, label_map={"angry": "agn"})
    with pytest.raises(ValueError, match="--map agnry=ang: the corpus has no emotion 'agnry'."):
        evaluate_model(model, str(small_corpus), None, "cpu", QUIET, label_map={"agnry": "ang"})
    with pytest.raises(ValueError, match="one name"):
        model.renamed({"ang": "sad"})


def test_the_commands_take_it_too(native, small_corpus, clips, tmp_path):
    pairs = ",".join(f"{ours}={theirs}" for ours, theirs in MAP.items())
    done = undertone("predict", native, clips[0], "--map", pairs, "--json")
    assert done.status == 0, done.err
    scores = json.loads(done.out)[0]["emotion"]["scores"]
    assert list(scores) == ["angry", "happy", "neutral", "sad"]
    assert scores["angry"] == pytest.approx(load_model(native).predict(clips[:1])[0]["emotion"]["scores"]["ang"])
    done = undertone("evaluate", native, small_corpus, "--map", pairs, "--out", tmp_path / "out", "--device", "cpu")
    assert done.status == 0 and (tmp_path / "out" / "predictions.parquet").is_file(), done.err
    assert undertone("export", native, "--to", "onnx", "--out", tmp_path / "x").fails_with(
        "is a WavLMForSequenceClassification, which transformers reads as it is."
    )


CARDS = {
    "names it in its metadata": ("---\ndatasets: [CREMA-D]\n---\nA model.", True),
    "names it in its text": ("A model that was fine-tuned on crema d and others.", True),
    "names another": ("---\ndatasets:\n- iemocap\n---\nA model.", False),
    "says nothing": ("A model.", True),
    "is missing": (None, True),
}


@pytest.mark.parametrize("card, seen", CARDS.values(), ids=CARDS)
def test_the_card_says_whether_it_was_trained_on_the_corpus(card, seen, native, tmp_path):
    from undertone.experiments.evaluate_clips import seen_by_card

    (tmp_path / "model").mkdir()
    for path in native.iterdir():
        (tmp_path / "model" / path.name).symlink_to(path)
    if card is not None:
        (tmp_path / "model" / "README.md").write_text(card)
    reasons, said = seen_by_card(TransformersModel.from_pretrained(tmp_path / "model"), "crema_d")
    assert bool(reasons) == seen
    if not seen:
        assert said == [f"the card of {tmp_path / 'model'} names iemocap as its training data"]


def test_speaker_dependence_follows_the_card(native, small_corpus):
    results = evaluate_model(
        TransformersModel.from_pretrained(native), str(small_corpus), None, "cpu", QUIET, label_map=MAP
    )
    assert not results["speaker_independent"]
    assert any("no card says on what it was" in warning for warning in results["warnings"])


def test_weights_from_before_transformers_5_sum_the_last_layer_after_its_norm(tmp_path):
    settings = {"use_weighted_layer_sum": True}
    folder = save_classifier("tiny-wav2vec2-layer", tmp_path / "model", **settings)
    config = json.loads((folder / "config.json").read_text())
    assert not getattr(load_model(folder).model.model.config, "tie_last_hidden_states", False)
    (folder / "config.json").write_text(json.dumps(config | {"transformers_version": "4.11.3"}))
    assert load_model(folder).model.model.config.tie_last_hidden_states is True


def test_an_untouched_base_model_is_what_the_reference_says(tmp_path):
    """`AutoModel` reads the same base weights: the classifier's file is the family's own."""
    folder = save_classifier("tiny-hubert", tmp_path / "model")
    base = AutoModel.from_pretrained(folder)
    own = load_model(folder).model.model.hubert.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in base.state_dict().items())
