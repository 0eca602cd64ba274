"""The upstream that the package holds: found by its name alone, in transformers too, and honest about its training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoFeatureExtractor, AutoModel

from undertone.commands.listing import listing
from undertone.pretraining.record import FILE_NAME
from undertone.upstream import load_upstream
from undertone.upstream.load import SHIPPED, build_upstream, shipped
from undertone.upstream.types import WaveBatch


def test_it_is_an_upstream_by_its_name() -> None:
    assert shipped() == ["tiny"]
    ours = load_upstream("tiny")
    assert ours.name == "tiny" and not ours.random_weights and str(SHIPPED) not in json.dumps(ours.spec())
    rebuilt = build_upstream(ours.spec())
    assert rebuilt.state_dict().keys() == ours.state_dict().keys()
    assert sum(path.stat().st_size for path in (SHIPPED / "tiny").iterdir()) < 6_000_000
    assert any(row[0] == "tiny" for row in listing("upstreams")[2])
    with pytest.raises(ValueError, match="takes no options"):
        load_upstream("tiny", options={"size": 1})


def test_a_folder_of_its_name_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(SHIPPED / "tiny", tmp_path / "tiny")
    with pytest.raises(ValueError, match=r"is an upstream of the package and a folder here. .*write \./tiny"):
        load_upstream("tiny")
    assert load_upstream("./tiny").name == "./tiny"


def test_features_of_another_extractor_in_a_saved_model_are_refused() -> None:
    spec = load_upstream("tiny").spec()
    spec["extractor"] = {"feature_extractor_type": "LasrFeatureExtractor", "n_fft": 1024}  # as an earlier version kept
    with pytest.raises(ValueError, match="1024.*lasr_encoder models are fed with"):
        build_upstream(spec)


def test_transformers_reads_the_same_folder() -> None:
    ours, folder = load_upstream("tiny"), SHIPPED / "tiny"
    wave = 0.1 * torch.randn(16_000, generator=torch.Generator().manual_seed(0))
    features = AutoFeatureExtractor.from_pretrained(folder)(
        wave.numpy(), sampling_rate=16_000, return_attention_mask=True
    )
    with torch.no_grad():
        theirs = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()(**features).last_hidden_state
        states = ours(WaveBatch.collate([wave], 16_000)).states
    assert states.shape[:2] == (1, ours.num_layers)
    torch.testing.assert_close(theirs, states[:, -1], atol=1e-4, rtol=1e-3)


def test_its_record_names_librispeech_and_no_path() -> None:
    text = (SHIPPED / "tiny" / FILE_NAME).read_text()
    record = json.loads(text)
    assert record["settings"]["corpora"] == ["librispeech"] and list(record["speakers"]) == ["librispeech"]
    assert len(record["audio_hashes"]) == 251 and '"/' not in text and not record["transductive"]
    card = (SHIPPED / "tiny" / "README.md").read_text()
    assert "CC BY 4.0" in card and "LibriSpeech" in card
