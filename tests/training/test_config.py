import json
import shlex

import pytest

from undertone.downstream.ladder_options import LadderOptions
from undertone.training.config import RunConfig
from undertone.training.settings import (
    check_same_run,
    command_line,
    corpus_options,
    make_config,
    public_command,
    save_config,
)


def test_later_sources_win(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("head: linear\nseed: 3\nlr: 0.01\n")
    config = make_config({"corpus": "emodb", "seed": 4}, ["head.hidden_size=16", "seed=5"], file, {"head": "x"})
    assert (config.head, config.seed, config.learning_rate) == ("linear", 5, 0.01)
    assert config.head_options == {"hidden_size": 16}


@pytest.mark.parametrize(
    ("word", "field", "value"),
    [
        ("learning_rate=3e-4", "learning_rate", 3e-4),
        ("head.heads={a: {C: [1e-3, 1.e2, 2]}}", "head_options", {"heads": {"a": {"C": [1e-3, 100.0, 2]}}}),
        ("lr=1E-2", "learning_rate", 1e-2),
        ("tasks=emotion,gender", "tasks", ("emotion", "gender")),
        ("layer_norm=true", "layer_norm", True),
        ("max_steps=100", "max_steps", 100),
        ("upstream.num_mels=40", "upstream_options", {"num_mels": 40}),
        ("corpus.labels=5class", "corpus_options", {"labels": "5class"}),
        ("task_weights.gender=0.5", "task_weights", {"gender": 0.5}),
        ("upstream=./a folder/wavlm", "upstream", "./a folder/wavlm"),
        ("root=2e5", "root", None),
    ],
)
def test_words_are_read_as_their_field_wants_them(word, field, value):
    if value is None:
        with pytest.raises(ValueError, match="root"):
            make_config({"corpus": "emodb"}, [word])
    else:
        assert getattr(make_config({"corpus": "emodb"}, [word]), field) == value


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["precision=bf16"], "Unknown setting 'precision'. Did you mean 'mixed_precision'"),
        (["learning_rat=1"], "Unknown setting 'learning_rat'. Did you mean 'learning_rate'"),
        (["seed"], "Expected key=value, got 'seed'"),
        (["lr=fast"], "Setting 'learning_rate': input should be a valid number.*got 'fast'"),
        (["lr=-1"], "Setting 'learning_rate': input should be greater than 0, got -1"),
        (["schedule=linea"], "Setting 'schedule': input should be 'linear', 'cosine'"),
        (["allow_leak=perhaps"], "Setting 'allow_leak': input should be a valid boolean"),
        (["num_folds=1"], "greater than or equal to 2"),
        (["augment.nois=5,20"], "Unknown setting 'augment.nois'. Did you mean 'augment.noise'"),
        (["ladder.lamdas=1"], "Unknown setting 'ladder.lamdas'. Did you mean 'ladder.lambdas'"),
        (["ladder.noise=-1"], "Setting 'ladder.noise': input should be greater than or equal to 0, got -1"),
        (["ladder.detach=1"], "Setting 'ladder.detach': input should be a valid boolean"),
        (["upstream=a=x/y+b=x/z", "streams.c.mode=lora"], "streams.c: no stream of that name; the streams are a, b"),
        (["streams.a.mode=lora"], "streams.a: no stream of that name; there is one upstream, without a name"),
        (
            ["upstream=a=x/y+mfcc", "streams.a.mod=lora"],
            "Unknown setting 'streams.a.mod'. Did you mean 'streams.a.mode'",
        ),
        (["upstream=a=x/y+mfcc", "streams.a.mode=x"], "Setting 'streams.a.mode': input should be 'frozen', 'finetune'"),
        (["upstream=a=x/y+mfcc", "revision=main"], "revision of one of several upstreams: give streams.NAME.revision="),
        (["upstream=a=x/y+mfcc", "upstream.x=1"], "give streams.NAME.options=..., NAME one of a, mfcc"),
        (["upstream=a=x/y+mfcc", "layers=best"], "layers=best tries the layers of one upstream"),
        (["upstream=x/y+mfcc"], "Setting 'upstream': each of several upstreams needs a name .* as ssl=x/y"),
        (["upstream=a=x/y+a=x/z"], "two upstreams are called 'a'"),
    ],
)
def test_wrong_settings_end_in_a_sentence(words, message):
    with pytest.raises(ValueError, match=message):
        make_config({"corpus": "emodb"}, words)


def test_the_options_of_a_presets_upstream_are_not_those_of_another(tmp_path):
    preset = {"upstream": "contours", "upstream_options": {"dynamics": True}}
    assert make_config({"corpus": "x"}, [], preset=preset).upstream_options == {"dynamics": True}
    assert make_config({"corpus": "x", "upstream": "contours"}, [], preset=preset).upstream_options
    by_flag = make_config({"corpus": "x", "upstream": "functionals"}, [], preset=preset)
    by_word = make_config({"corpus": "x"}, ["upstream.deltas=true", "upstream=spectrogram"], preset=preset)
    assert by_flag.upstream_options == {} and by_word.upstream_options == {"deltas": True}
    (tmp_path / "own.yaml").write_text("upstream_options: {deltas: true}")
    own = make_config({"corpus": "x", "upstream": "spectrogram"}, [], tmp_path / "own.yaml")
    assert own.upstream_options == {"deltas": True}


def test_unreadable_config_files(tmp_path):
    with pytest.raises(ValueError, match="Cannot read the config .*missing.yaml"):
        make_config({"corpus": "emodb"}, file=tmp_path / "missing.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ValueError, match="must hold `key: value` lines, got list"):
        make_config({"corpus": "emodb"}, file=tmp_path / "list.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    with pytest.raises(ValueError, match="is not valid YAML"):
        make_config({"corpus": "emodb"}, file=tmp_path / "broken.yaml")


def test_the_saved_config_is_read_back_as_it_was(tmp_path):
    config = make_config({"corpus": "emodb"}, ["tasks=emotion", "lr=1e-5", "head.dropout=0.1"])
    save_config(config, tmp_path / "config.json")
    assert make_config({}, file=tmp_path / "config.json") == config


def test_a_run_is_not_continued_under_other_settings(tmp_path):
    save_config(RunConfig(corpus="emodb"), tmp_path / "config.json")
    check_same_run(RunConfig(corpus="emodb", store="elsewhere"), tmp_path / "config.json")
    (tmp_path / "older.json").write_text('{"corpus": "emodb", "ladder_options": {"lambdas": 1.0}}')
    check_same_run(RunConfig(corpus="emodb"), tmp_path / "older.json")
    with pytest.raises(ValueError, match="seed was 0, now 1"):
        check_same_run(RunConfig(corpus="emodb", seed=1), tmp_path / "config.json")


def test_ladder_options_are_saved_and_shown_as_they_were_given(tmp_path):
    config = make_config({"corpus": "emodb"}, ["ladder=true", "ladder.lambdas=1,0.1", "ladder.detach=false"])
    assert config.ladder_options == LadderOptions(lambdas=(1, 0.1), detach=False)
    save_config(config, tmp_path / "config.json")
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["ladder_options"] == {"lambdas": [1, 0.1], "detach": False}
    assert make_config({}, file=tmp_path / "config.json") == config
    words = shlex.split(command_line(saved, tmp_path))
    assert {"ladder=true", "ladder.lambdas=[1.0,0.1]", "ladder.detach=false"} <= set(words)
    assert make_config({"corpus": "emodb"}, [word for word in words if word.startswith("ladder")]) == config


def test_a_command_of_corpus_options_takes_nothing_else():
    assert corpus_options(["corpus.labels=5class", "corpus.part=scripted"]) == {"labels": "5class", "part": "scripted"}
    assert corpus_options([]) == {}
    with pytest.raises(ValueError, match="Expected corpus.NAME=value, got 'seed=1'; there are no other settings here"):
        corpus_options(["corpus.labels=all", "seed=1"])


def test_the_command_for_others_names_no_folder_of_this_machine(tmp_path):
    config = RunConfig(
        corpus=str(tmp_path / "calls.csv"), root=str(tmp_path), store=str(tmp_path / "store"), seed=3, mode="lora",
        upstream="microsoft/wavlm-base", head="./mine/my_head.py",
        augment={"noise": "5,20", "noise_files": str(tmp_path / "noises")},
    )  # fmt: skip
    command = public_command(config)
    assert command.startswith(
        "undertone crossval calls.csv --upstream microsoft/wavlm-base --head my_head.py --out RUN"
    )
    assert "seed=3" in command and "mode=lora" in command and "noise_files=noises" in command
    assert "/" not in command.replace("microsoft/wavlm-base", "")
    named = config.model_copy(update={"upstream": f"ssl={tmp_path}/base+mfcc"})
    assert shlex.split(public_command(named))[4] == "ssl=base+mfcc"
    alone = config.model_copy(update={"upstream": "mfcc=mfcc"})  # without its name, streams.mfcc.options were refused
    assert shlex.split(public_command(alone))[4] == "mfcc=mfcc"


def test_several_upstreams_have_settings_of_their_own_before_those_of_the_run(tmp_path):
    words = ["mode=lora", "lr=1e-3", "streams.mfcc.mode=frozen", "streams.b.upstream_learning_rate=1e-4"]
    words += ["streams.b.layers=3", "streams.mfcc.options={a: 1}", "fusion=concat"]
    config = make_config({"corpus": "emodb", "upstream": "a=x/y+b=x/z+mfcc"}, words)
    own = config.of_streams()
    assert {name: (one.upstream, one.mode) for name, one in own.items()} == {
        "a": ("x/y", "lora"), "b": ("x/z", "lora"), "mfcc": ("mfcc", "frozen")
    }  # fmt: skip
    assert (own["b"].upstream_learning_rate, own["a"].upstream_learning_rate) == (1e-4, config.upstream_learning_rate)
    assert (own["b"].layers, own["a"].layers, own["mfcc"].upstream_options) == (3, "sum", {"a": 1})
    assert config.trained == "lora" and config.code() == ("attention", "x/y", "x/z", "mfcc")
    save_config(config, tmp_path / "config.json")
    assert make_config({}, file=tmp_path / "config.json") == config
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["streams"]["mfcc"] == {"options": {"a": 1}, "mode": "frozen"}
    line = shlex.split(command_line(saved, tmp_path))
    upstream, rest = line[line.index("--upstream") + 1], line[line.index("--out") + 2 :]
    assert make_config({"corpus": "emodb", "upstream": upstream}, rest) == config


def test_one_upstream_is_one_whatever_its_folder_is_called(tmp_path):
    (folder := tmp_path / "a=b+c").mkdir()
    config = make_config({"corpus": "emodb", "upstream": str(folder)})
    assert config.of_streams() == {"speech": config} and config.trained == "frozen"
    assert list(make_config({"corpus": "emodb", "upstream": "speech=x/y"}).of_streams()) == ["speech"]
