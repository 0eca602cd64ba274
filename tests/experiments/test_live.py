"""Upstreams that learn: fine-tuning, its top layers, LoRA; on the small corpus with a tiny wav2vec 2.0."""

import copy

import pytest
import torch
from peft import PeftConfig, PeftModel
from transformers import AutoModel

from undertone import load_model
from undertone.common.console import Display
from undertone.downstream.network import LiveModel, trained_state
from undertone.experiments.cost import trained_parameters
from undertone.experiments.crossval import crossval
from undertone.experiments.open_run import open_run
from undertone.training.accelerator import accelerator_of
from undertone.training.settings import make_config
from undertone.training.trainer import Trainer, total_steps
from undertone.upstream import WaveBatch, load_upstream
from undertone.upstream.hf.adapt import add_lora, merge_lora, save_lora
from undertone.upstream.hf.random_weights import save_random

SETTINGS = ["protocol=groups", "num_folds=2", "batch_size=16", "head.hidden_size=16", "max_epochs=2"]
RATES = ["upstream_learning_rate=1e-2", "lr=1e-2"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return str(save_random("tiny-wav2vec2", tmp_path_factory.mktemp("tiny") / "tiny"))


@pytest.fixture
def opened(small_corpus, tiny, tmp_path):
    def open_with(*words):
        config = make_config(
            {"corpus": str(small_corpus), "upstream": tiny}, [*SETTINGS, *RATES, f"store={tmp_path / 'store'}", *words]
        )
        return open_run(config, tmp_path / "run", Display(quiet=True))

    return open_with


def learning(module: torch.nn.Module) -> set[str]:
    return {name for name, weight in module.named_parameters() if weight.requires_grad}


def train(run, folder, stop_at=3, **options):
    trainer = Trainer(run.config, run.tasks, run.source, run.new_module("x"), folder, accelerator_of(run.config))
    utterances = run.manifest.select(run.folds[0].train)
    trainer.fit(utterances, [], total_steps(run.config, len(utterances)), stop_at)
    return trainer.module


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["mode=finetune"], lambda name: "feature_extractor" not in name),
        (["mode=finetune", "train_front_end=true"], lambda name: True),
        (["mode=finetune", "top_layers=1"], lambda name: "encoder.layers.1." in name),
        (["mode=lora"], lambda name: "lora_" in name),
    ],
    ids=["finetune", "front end", "top layer", "lora"],
)
def test_exactly_what_the_mode_says_learns(opened, tmp_path, words, expected):
    run = opened(*words)
    before = run.new_module("x")
    names = {name for name, _ in before.upstream.named_parameters()}
    assert learning(before.upstream) == {name for name in names if expected(name)} != set()
    after = train(run, tmp_path / "fold")
    weights = dict(before.named_parameters())
    moved = {name for name, weight in after.named_parameters() if not torch.equal(weight, weights[name])}
    never_used = {"upstream.model.masked_spec_embed"}
    assert moved == learning(before) - never_used
    assert set(trained_state(after)) >= moved and not set(trained_state(after)) & (set(weights) - learning(before))


@pytest.mark.parametrize("mode", ["frozen", "lora"])
def test_how_many_weights_learn_is_said(small_corpus, tiny, tmp_path, capsys, mode):
    words = [*SETTINGS, f"mode={mode}", f"store={tmp_path / 'store'}"]
    run = open_run(make_config({"corpus": str(small_corpus), "upstream": tiny}, words), tmp_path / "run", Display())
    module, said = run.new_module("x"), capsys.readouterr().err
    downstream = module if mode == "frozen" else module.downstream
    own = f"{sum(weight.numel() for weight in downstream.parameters()):,} of layer sum and head"
    if mode == "frozen":
        assert f"frozen: trains no upstream weight, {own}" in said
        return
    weights = list(module.upstream.parameters())
    learn = sum(weight.numel() for weight in weights if weight.requires_grad)
    assert f"lora: trains {learn:,} of {sum(w.numel() for w in weights):,} upstream weights, and {own}" in said


def test_the_run_s_own_upstream_is_untouched(opened, tmp_path):
    run = opened("mode=finetune")
    before = copy.deepcopy(run.upstream.state_dict())
    train(run, tmp_path / "fold")
    assert all(torch.equal(value, before[name]) for name, value in run.upstream.state_dict().items())


def test_a_frozen_front_end_keeps_no_graph(opened):
    module = opened("mode=finetune").new_module("x").train()
    seen = []
    front_end = module.upstream.model.feature_extractor
    front_end.register_forward_hook(lambda _, __, output: seen.append(output.requires_grad))
    module(WaveBatch(torch.randn(1, 8000), torch.tensor([8000]), 16000))
    assert seen == [False] and not front_end.training


def test_lora_starts_as_the_plain_upstream_and_merges_to_w_plus_ba(tiny):
    batch = WaveBatch.collate([torch.randn(8000), torch.randn(5000)], 16000)
    upstream = load_upstream(tiny)
    plain = upstream(batch).states
    add_lora(upstream, rank=4, alpha=8, dropout=0.0)
    torch.testing.assert_close(upstream(batch).states, plain)
    layer = upstream.model.base_model.model.encoder.layers[0].attention.q_proj
    for weight in (layer.lora_A["default"].weight, layer.lora_B["default"].weight):
        torch.nn.init.normal_(weight)
    by_hand = layer.base_layer.weight + 8 / 4 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    adapted = upstream(batch).states
    merge_lora(upstream)
    torch.testing.assert_close(upstream.model.encoder.layers[0].attention.q_proj.weight, by_hand)
    torch.testing.assert_close(upstream(batch).states, adapted, atol=1e-5, rtol=0)
    assert not torch.allclose(adapted, plain, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("name", ["tiny-wav2vec2", "tiny-hubert", "tiny-wavlm"])
def test_plain_peft_reads_the_adapters_and_must_merge_them_for_wavlm(name, tmp_path):
    """With nothing but transformers and PEFT, as card and docstring say."""
    base = str(save_random(name, tmp_path / "base"))
    samples, upstream = torch.randn(2, 8000), load_upstream(base)
    plain = AutoModel.from_pretrained(base).eval()(samples).last_hidden_state
    add_lora(upstream, rank=4, alpha=8, dropout=0.0)
    for key, weight in upstream.model.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(weight)
    save_lora(upstream, tmp_path / "adapter")
    merge_lora(upstream)
    ours = upstream.model(samples).last_hidden_state
    stock = PeftModel.from_pretrained(AutoModel.from_pretrained(base), tmp_path / "adapter").eval()
    unmerged = stock(samples).last_hidden_state
    merged = stock.merge_and_unload()(samples).last_hidden_state
    torch.testing.assert_close(merged, ours, atol=1e-5, rtol=0)
    assert float((merged - plain).abs().max()) > 1e-2
    if name == "tiny-wavlm":
        torch.testing.assert_close(unmerged, plain, atol=1e-5, rtol=0)  # if this fails one day, the sentences can go
    else:
        torch.testing.assert_close(unmerged, ours, atol=1e-5, rtol=0)


def test_adapters_name_the_commit_of_their_upstream(tiny, tmp_path):
    upstream = load_upstream(tiny)
    add_lora(upstream, rank=4, alpha=8, dropout=0.0)
    spec = upstream.spec()
    upstream.spec = lambda: spec | {"commit": "0123abc"}
    save_lora(upstream, tmp_path / "adapter")
    assert PeftConfig.from_pretrained(tmp_path / "adapter").revision == "0123abc"


@pytest.mark.parametrize("mode", ["finetune", "lora"])
def test_one_layer_of_an_upstream_that_learns(opened, tmp_path, mode):
    """It trains on that layer alone; to try each is refused with the way to do it."""
    with pytest.raises(ValueError, match=f"mode=frozen layers=best, then give its number: mode={mode} layers=N"):
        opened(f"mode={mode}", "layers=best")
    run = opened(f"mode={mode}", "layers=1")
    module = train(run, tmp_path / "fold")
    assert module.downstream.layer_sum.layer_weights().tolist() == [0, 1, 0]
    merged = run.training_of_everyone(run.config).model(module, list(run.manifest)).upstream
    before, after = run.upstream.model.state_dict(), merged.model.state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert any("encoder.layers.0." in key for key in changed)
    assert mode == "finetune" or not any("encoder.layers.1." in key for key in changed)


@pytest.mark.parametrize("mode", ["finetune", "lora"])
def test_fold_and_final_model_predict_what_the_training_predicted(opened, tmp_path, mode):
    run = opened(f"mode={mode}")
    module = train(run, tmp_path / "fold").eval()
    utterances = run.manifest.select(run.folds[0].test)[:3]
    with torch.inference_mode():
        expected = module(run.source(utterances)).logits["emotion"]
    training = run.training_of_everyone(run.config)
    training.save(module, utterances, tmp_path / "fold-model")
    training.model(module, utterances).save_pretrained(tmp_path / "whole")
    for folder in ("fold-model", "whole"):
        found = load_model(tmp_path / folder).model.predict_batch(run.source(utterances)).logits["emotion"]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    if mode == "lora":
        size = {name: (tmp_path / name / "model.safetensors").stat().st_size for name in ("fold-model", "whole")}
        assert size["fold-model"] < 0.5 * size["whole"]
        base = load_upstream(run.config.upstream).model
        peft_model = PeftModel.from_pretrained(base, str(tmp_path / "fold-model" / "adapter"))
        saved = {name.split(".lora_")[0] for name in peft_model.state_dict() if ".lora_" in name}
        assert len(saved) == 2 * base.config.num_hidden_layers  # query and value projections of every block


def test_gradient_checkpointing_and_accumulation_give_the_same_gradient(opened, tmp_path):
    """Once without dropout anywhere: the tiny model's own dropouts are set to 0."""

    def weights(*words):
        run = opened("mode=finetune", "head.dropout=0", *words)
        for module in run.upstream.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            if hasattr(module, "dropout") and isinstance(module.dropout, float):
                module.dropout = 0.0
        return train(run, tmp_path / "-".join(words).replace("=", ""), stop_at=2).state_dict()

    plain = weights("seed=0")
    (tmp_path / "run" / "config.json").unlink()
    for words in (("gradient_checkpointing=true",), ("accumulation=4",)):
        for name, value in weights(*words).items():
            torch.testing.assert_close(value, plain[name], atol=2e-4, rtol=0, msg=name)
        (tmp_path / "run" / "config.json").unlink()


FINETUNE = ["mode=finetune", "top_layers=1", "mixed_precision=bf16"]


@pytest.mark.parametrize("words", [["mode=lora"], pytest.param(FINETUNE, marks=pytest.mark.slow)])
def test_a_whole_cross_validation(small_corpus, tiny, tmp_path, words):
    config = make_config({"corpus": str(small_corpus), "upstream": tiny}, [*SETTINGS, "max_steps=3", *words])
    results = crossval(config, tmp_path / "run", Display(quiet=True))
    assert len(results["folds"]) == 2
    open_again = open_run(config, tmp_path / "run", Display(quiet=True))
    learned = sum(weight.numel() for weight in open_again.new_module("x").parameters() if weight.requires_grad)
    counts = [results["cost"]["trained_parameters"], *(entry["trained_parameters"] for entry in results["folds"])]
    assert counts == [learned] * 3 and learned > trained_parameters(open_again.new_downstream("x"))
    clip = next(small_corpus.parent.rglob("*.wav"))
    row = load_model(tmp_path / "run").predict([clip])[0]
    assert set(row["emotion"]["scores"]) == {"angry", "happy", "neutral", "sad"}
    assert (tmp_path / "run" / "adapter").is_dir() == (words == ["mode=lora"])
    if words == ["mode=lora"]:
        apart = load_model(tmp_path / "run" / "adapter").predict([clip])[0]
        assert apart["emotion"]["scores"] == pytest.approx(row["emotion"]["scores"], abs=1e-5)


def test_what_cannot_learn_is_refused(opened, small_corpus, tmp_path):
    with pytest.raises(ValueError, match="top_layers must be 1..2"):
        opened("mode=finetune", "top_layers=3")
    config = make_config({"corpus": str(small_corpus)}, [*SETTINGS, "mode=lora"])
    with pytest.raises(ValueError, match="'fbank' has no weights that could learn"):
        open_run(config, tmp_path / "other", Display(quiet=True))


def test_a_live_model_is_a_downstream_on_hidden_states(opened):
    run = opened("mode=finetune")
    module = run.new_module("x").eval()
    assert isinstance(module, LiveModel)
    batch = run.source(run.manifest.select(run.manifest.ids[:2]))
    expected = module.downstream(run.upstream(batch)).logits["gender"]
    torch.testing.assert_close(module(batch).logits["gender"], expected)
