"""Each form in which the Hub holds a checkpoint gives the hidden states of the model that was saved."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    HubertForCTC,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2ForPreTraining,
    Wav2Vec2ForSequenceClassification,
    Wav2Vec2Processor,
    WavLMForCTC,
)

from undertone.upstream import WaveBatch, load_upstream
from undertone.upstream.hf.random_weights import save_random

RATE = 16_000
GEOMETRY = {
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 2,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "vocab_size": 12,
    "codevector_dim": 16,
    "proj_codevector_dim": 16,
    "num_codevectors_per_group": 8,
}
WAVE = 0.1 * torch.randn(9000, generator=torch.Generator().manual_seed(3)) + 0.05


def model_of(cls, **overrides):
    torch.manual_seed(0)
    return cls(cls.config_class(**(GEOMETRY | overrides))).eval()


def expected_states(model, do_normalize: bool = True) -> torch.Tensor:
    wave = (WAVE - WAVE.mean()) / torch.sqrt(WAVE.var(correction=0) + 1e-7) if do_normalize else WAVE
    with torch.inference_mode():
        return torch.stack(model.base_model(wave[None], output_hidden_states=True).hidden_states, 1)


def check(folder: Path, model, do_normalize: bool = True) -> None:
    with torch.inference_mode():
        states = load_upstream(str(folder))(WaveBatch.collate([WAVE], RATE)).states
    torch.testing.assert_close(states, expected_states(model, do_normalize), rtol=0, atol=1e-5)


def as_bin(folder: Path) -> dict[str, torch.Tensor]:
    """Replace model.safetensors by pytorch_model.bin."""
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    return state


def rewrite(folder: Path, change) -> None:
    """Rewrite the weights' names or values."""
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors", metadata={"format": "pt"})


MODELS = {
    "pretraining": Wav2Vec2ForPreTraining,
    "ctc": Wav2Vec2ForCTC,
    "hubert ctc": HubertForCTC,
    "wavlm ctc": WavLMForCTC,
    "classifier": Wav2Vec2ForSequenceClassification,
}


@pytest.fixture(params=MODELS)
def saved(request, tmp_path):
    """A model with a head and the folder it was saved in, with do_normalize true."""
    model = model_of(MODELS[request.param])
    model.save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(tmp_path)
    return model, tmp_path


def test_with_a_head(saved) -> None:
    model, folder = saved
    check(folder, model)
    assert type(load_upstream(str(folder)).model) is type(model.base_model)


def test_bin_only_has_the_fingerprint_of_safetensors(saved) -> None:
    model, folder = saved
    before = load_upstream(str(folder)).fingerprint()
    as_bin(folder)
    check(folder, model)
    assert load_upstream(str(folder)).fingerprint() == before


def test_old_and_new_names_of_the_positional_convolution(saved) -> None:
    model, folder = saved
    before = load_upstream(str(folder)).fingerprint()
    old, new = ("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1")
    for source, target in ((old, new), (new, old)):

        def rename(state, source=source, target=target):
            names = {name: name for name in state}
            for a, b in zip(source, target, strict=True):
                names = {name: renamed.replace(f"conv.{a}", f"conv.{b}") for name, renamed in names.items()}
            return {names[name]: value for name, value in state.items()}

        rewrite(folder, rename)
        assert any(target[0] in name for name in load_file(folder / "model.safetensors"))
        check(folder, model)
        assert load_upstream(str(folder)).fingerprint() == before


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_code_in_a_pickle_is_refused_and_not_run(saved) -> None:
    _, folder = saved
    torch.save(as_bin(folder) | {"payload": Payload(folder / "ran")}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="Cannot read the weights of upstream"):
        load_upstream(str(folder))
    assert not (folder / "ran").exists()


def test_sharded(tmp_path) -> None:
    model = model_of(Wav2Vec2ForCTC)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    check(tmp_path, model)


def test_half_precision_weights_are_read_as_float32(tmp_path) -> None:
    model = model_of(Wav2Vec2ForCTC).half()
    model.save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(tmp_path)
    upstream = load_upstream(str(tmp_path))
    assert {parameter.dtype for parameter in upstream.parameters()} == {torch.float32}
    check(tmp_path, model.float())


def test_without_mask_embedding_one_line_says_so(tmp_path, caplog) -> None:
    model = model_of(Wav2Vec2ForCTC)
    model.save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(tmp_path)
    rewrite(tmp_path, lambda state: {name: value for name, value in state.items() if "masked_spec_embed" not in name})
    with caplog.at_level(logging.WARNING):
        upstream = load_upstream(str(tmp_path))
    assert [record.message for record in caplog.records if "masked_spec_embed" in record.message] != []
    assert len(caplog.records) == 1
    assert not upstream.model.masked_spec_embed.any()
    check(tmp_path, model)


@pytest.mark.parametrize("do_normalize", [True, False])
@pytest.mark.parametrize("form", ["preprocessor", "processor"])
def test_do_normalize_as_the_file_says(tmp_path, do_normalize: bool, form: str) -> None:
    model = model_of(WavLMForCTC)
    model.save_pretrained(tmp_path)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=do_normalize)
    extractor.save_pretrained(tmp_path)
    if form == "processor":  # how Wav2Vec2Processor saves since transformers 5
        settings = json.loads((tmp_path / "preprocessor_config.json").read_text())
        (tmp_path / "preprocessor_config.json").unlink()
        nested = {"feature_extractor": settings, "processor_class": Wav2Vec2Processor.__name__}
        (tmp_path / "processor_config.json").write_text(json.dumps(nested))
    check(tmp_path, model, do_normalize)


@pytest.mark.parametrize(
    "cls, overrides, do_normalize",
    [
        (Wav2Vec2ForCTC, {}, True),
        (HubertForCTC, {}, True),
        (WavLMForCTC, {}, False),
        (WavLMForCTC, {"feat_extract_norm": "layer"}, True),
    ],
)
def test_without_preprocessor_config_the_familys_default_is_said(
    tmp_path, caplog, cls, overrides, do_normalize: bool
) -> None:
    model = model_of(cls, **overrides)
    model.save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING):
        load_upstream(str(tmp_path))
    assert len(caplog.records) == 1
    message = caplog.records[0].message
    assert "has no preprocessor_config.json" in message and f"taking {do_normalize}" in message
    check(tmp_path, model, do_normalize)


def test_adapter_layers_are_left_out(tmp_path) -> None:
    model = model_of(Wav2Vec2ForCTC, add_adapter=True, num_adapter_layers=1, output_hidden_size=32)
    model.save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(tmp_path)
    check(tmp_path, model)


@pytest.mark.parametrize("name", ["layers.1.attention.k_proj.weight", "feature_extractor.conv_layers.0.conv.weight"])
def test_a_missing_encoder_weight_is_an_error(saved, name: str) -> None:
    model, folder = saved
    rewrite(folder, lambda state: {key: value for key, value in state.items() if not key.endswith(name)})
    with pytest.raises(ValueError, match=f"do not fit its config.json.*missing: .*{name}"):
        load_upstream(str(folder))


def test_a_weight_of_another_shape_is_an_error(saved) -> None:
    model, folder = saved
    name = f"{model.base_model_prefix}.feature_projection.projection.bias"
    rewrite(folder, lambda state: state | {name: torch.zeros(7)})
    with pytest.raises(ValueError, match=r"of another shape: feature_projection.projection.bias \(7,\), not \(32,\)"):
        load_upstream(str(folder))


def test_wavlm_weights_load_as_wavlm_and_never_as_wav2vec2(tmp_path) -> None:
    model = model_of(WavLMForCTC)
    model.base_model.save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(tmp_path)
    check(tmp_path, model)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "wav2vec2"}))
    with pytest.raises(ValueError, match="'wav2vec2' model.*not of this architecture: encoder.layers.0.attention.gru"):
        load_upstream(str(tmp_path))


def test_loading_is_quiet_and_leaves_transformers_loggers_as_they_were(saved, capfd) -> None:
    from transformers.utils import logging as transformers_logging

    verbosity = transformers_logging.get_verbosity()
    load_upstream(str(saved[1]))
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
    assert transformers_logging.get_verbosity() == verbosity


def test_auto_map_is_never_followed(saved) -> None:
    model, folder = saved
    (folder / "evil.py").write_text("raise SystemExit('remote code ran')")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    check(folder, model)


@pytest.mark.parametrize("stride", [10**6, 10**20])
def test_strides_that_make_no_frame_are_refused(stride: int, tmp_path: Path) -> None:
    path = save_random("tiny-wav2vec2", tmp_path / "upstream") / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"conv_kernel": [10, *config["conv_kernel"][1:]], "conv_stride": [stride] * 7}))
    with pytest.raises(ValueError, match="makes no frame of a second of audio: its config.json is damaged"):
        load_upstream(str(tmp_path / "upstream"))


def test_peft_adapters_are_refused_and_the_advice_makes_an_upstream(tmp_path: Path) -> None:
    """Alone, and beside a model; what the sentence says to do is done, and gives the merged weights."""
    import shutil

    import peft
    import transformers

    model = transformers.HubertForSequenceClassification(
        transformers.HubertConfig(
            num_hidden_layers=2, hidden_size=48, num_attention_heads=4, intermediate_size=96, conv_dim=(32,) * 7,
            num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, num_labels=4,
        )
    )  # fmt: skip
    base, adapters, both = (tmp_path / name for name in ("base", "adapters", "both"))
    model.save_pretrained(base)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(base)
    lora = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    adapted = peft.get_peft_model(transformers.HubertForSequenceClassification.from_pretrained(base), lora)
    adapted.save_pretrained(adapters)
    shutil.copytree(base, both)
    for path in adapters.glob("adapter_*"):
        shutil.copy(path, both)
    wanted = adapted.merge_and_unload().hubert.state_dict()
    for folder in (adapters, both):
        with pytest.raises(ValueError, match="holds PEFT adapters") as refused:
            load_upstream(str(folder))
        text = str(refused.value)
        start, end = text.index("PeftModel.from"), text.index(" Copy the base")
        command = text[start:end].rstrip(".").replace("'merged'", repr(str(tmp_path / "merged" / folder.name)))
        if folder == both:
            assert "move adapter_config.json and its weights into a folder of their own, ADAPTERS" in text
            shutil.copytree(adapters, tmp_path / "ADAPTERS")
            for path in both.glob("adapter_*"):
                path.unlink()
            command = command.replace("'ADAPTERS'", repr(str(tmp_path / "ADAPTERS")))
        exec(command, vars(transformers) | vars(peft))
        shutil.copy(base / "preprocessor_config.json", tmp_path / "merged" / folder.name)
        got = load_upstream(str(tmp_path / "merged" / folder.name)).model.state_dict()
        assert got.keys() == wanted.keys() and all(torch.equal(got[name], wanted[name]) for name in got)
