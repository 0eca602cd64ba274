"""Runs on sound and pictures: clips whose pictures alone carry the label, some without video, frozen and fine-tuned."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from undertone import load_model
from undertone.audio.read import read_audio
from undertone.commands.ablate import row_configs
from undertone.common.console import Display
from undertone.corpora.manifest import Manifest, Utterance
from undertone.experiments import run_fold
from undertone.experiments.evaluate_model import evaluate_model
from undertone.experiments.open_run import open_run
from undertone.experiments.run import Run
from undertone.experiments.run_fold import train_fold
from undertone.experiments.streams_alone import streams_alone
from undertone.hub.onnx.to_onnx import upstream_graph
from undertone.recipes.systems import load_system, system_module
from undertone.scoring.metrics import ccc
from undertone.tests.audio.videos import RATE, write_video
from undertone.tests.cli.commands import undertone
from undertone.tests.experiments.test_several_upstreams import fit
from undertone.training.accelerator import accelerator_of
from undertone.training.config import RunConfig, trials
from undertone.training.settings import make_config
from undertone.training.sources import WaveSource
from undertone.upstream.hf.random_weights import save_random
from undertone.upstream.types import HiddenStates, StreamBatch, WaveBatch

av = pytest.importorskip("av")

SECONDS = 0.8
NARROW = ("head.filters=4", "head.hidden_size=8", "head.dropout=0", "batch_size=8", "lr=1e-2", "device=cpu")
WORDS = (*NARROW, "protocol=groups", "num_folds=2", "alone_first=false", "postprocess=", "patience=50")


def write_corpus(folder: Path, count: int = 24, without: Sequence[int] = ()) -> Path:
    """Films of four speakers: the grey level is arousal over time, bright ones are happy; noise as sound.

    Those of the numbers `without` are sound alone.
    """
    folder.mkdir()
    random, rows = np.random.default_rng(0), []
    for number in range(count):
        noise = 0.1 * random.standard_normal(int(SECONDS * RATE))
        bright = number % 2 == 1
        levels = (0.55 if bright else 0.05) + 0.4 * np.sort(random.uniform(size=4))[:: random.choice([-1, 1])]
        name = f"{number}.wav" if number in without else f"{number}.mp4"
        if number in without:
            soundfile.write(folder / name, noise, RATE)
        else:
            write_video(folder / name, [round(255 * level) for level in levels], noise)
        lines = [f"{place / 10},{levels[place // 2]:.4f}" for place in range(8)]
        (folder / f"{number}.csv").write_text("\n".join(["time,arousal", *lines, ""]))
        emotion = "happy" if bright else "sad"
        rows.append({"file": name, "speaker": f"s{number // 2 % 4}", "emotion": emotion, "series": f"{number}.csv"})
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return folder / "table.csv"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus, one where a third has no video, a small ResNet of random weights, the store."""
    folder = tmp_path_factory.mktemp("video")
    write_corpus(folder / "all")
    write_corpus(folder / "some", count=12, without=(1, 4, 6, 11))
    save_random("small-resnet", folder / "resnet")
    return folder


def config_of(folder: Path, upstream: str, *words: str, corpus: str = "all") -> RunConfig:
    """The system at a small size, its ResNet frozen."""
    preset = load_system("tzirakis2017:frozen") | {"streams": {}, "upstream": upstream.format(folder / "resnet")}
    given = {"corpus": str(folder / corpus / "table.csv")}
    return make_config(given, [*WORDS, f"store={folder / 'store'}", *words], preset=preset)


BOTH, AUDIO, VIDEO = "waveform+video={}", "waveform=waveform", "video={}"


@pytest.fixture
def opened(folder: Path, tmp_path: Path):
    def run(upstream: str, *words: str, corpus: str = "all") -> Run:
        return open_run(config_of(folder, upstream, *words, corpus=corpus), tmp_path / "run", Display(quiet=True))

    return run


@pytest.mark.parametrize(("upstream", "least"), [(VIDEO, 0.8), (AUDIO, None), (BOTH, 0.4)])
def test_video_learns_what_sound_does_not_say(opened, upstream: str, least: float | None) -> None:
    """The CCC on speakers that were not trained on; of sound alone it is that of chance."""
    words = ("max_steps=60", "eval_every=20", "lr=5e-3", "head.num_maps=1", "head.dropout=0.2")
    run = opened(upstream, "tasks=series.arousal", *words)
    train_fold(run, run.folds[0], "")
    tested = run.folder.fold_predictions(run.folds[0].name)
    found = ccc(tested.targets["arousal"], tested.scores["arousal"][:, 0])
    assert abs(found) < 0.2 if least is None else found > least
    kinds = {VIDEO: "video: frames", AUDIO: "waveform: frames", BOTH: "waveform: frames, video: frames"}
    assert run.stored == kinds[upstream] and run.warnings == ()


def test_branches_trained_alone_start_the_training_of_both(opened, tmp_path: Path) -> None:
    """The waveform's convolutions and the ResNet are those of two trainings alone; the LSTM is new."""
    words = (
        "tasks=emotion",
        "streams.video.mode=finetune",
        "upstream_learning_rate=1e-3",
        "max_steps=2",
        "eval_every=1",
    )
    run = opened(BOTH, *words, "alone_first=true")
    own = run.training(run.folds[0], trials(run.config)[0])
    accelerator = accelerator_of(run.config)
    once = partial(run_fold._fit_once, accelerator=accelerator, dev=own.dev, total=None, stop_at=None)
    start = streams_alone(own, tmp_path / "alone", own.train, once)
    new = dict(own.new_module().named_parameters())
    names = {"upstream.parts.video.", "downstream.head.branches.waveform."}
    assert {next(name for name in names if key.startswith(name)) for key in start} == names
    assert all(weight.requires_grad for name, weight in new.items() if name in start)
    for stream in run.upstream.streams:  # what training that stream alone gives
        alone = own.alone(stream)
        module, _ = run_fold.fit(alone, accelerator, tmp_path / stream, own.train, own.dev)
        state = {name.removeprefix("downstream."): weight for name, weight in module.state_dict().items()}
        mine = {name: state[name.removeprefix("downstream.")] for name in start if f".{stream}." in name}
        assert mine and all(torch.equal(weight, start[name]) for name, weight in mine.items())
        assert any(not torch.equal(weight, new[name]) for name, weight in mine.items())
    train_fold(run, run.folds[0], "")
    assert not (run.folder.fold(run.folds[0].name) / "alone").exists()


@pytest.mark.parametrize("mode", ["frozen", "finetune"])
def test_a_fold_s_model_gives_what_its_training_gave(opened, mode: str) -> None:
    """From the film alone, as a file of a user's; the saved ResNet is the one that has learned."""
    run = opened(BOTH, "tasks=emotion", f"streams.video.mode={mode}", "upstream_learning_rate=1e-3", "max_steps=3")
    train_fold(run, run.folds[0], "")
    place = run.folder.fold(run.folds[0].name)
    tested, model = run.folder.fold_predictions(run.folds[0].name), load_model(place / "model", any_sound=True)
    clips = run.manifest.select(tested.ids[:3])
    rows = model.predict([clip.path for clip in clips])
    found = [[row["emotion"]["scores"][label] for label in ("happy", "sad")] for row in rows]
    np.testing.assert_allclose(found, tested.scores["emotion"][:3], atol=2e-5)
    assert run.stored == ("waveform: frames, video: frames" if mode == "frozen" else "waveform: frames, video: none")
    kept = model.model.upstream.streams["video"].weights_hash() == run.upstream.streams["video"].weights_hash()
    assert kept == (mode == "frozen")


def test_stopped_and_resumed_bit_for_bit(opened, tmp_path: Path) -> None:
    run = opened(BOTH, "tasks=emotion", "streams.video.mode=finetune", "head.dropout=0.5")
    whole = fit(run, tmp_path / "whole").module.state_dict()
    fit(run, tmp_path / "stopped", stop_at=1)
    resumed = fit(run, tmp_path / "stopped").module.state_dict()
    assert all(torch.equal(value, whole[name]) for name, value in resumed.items())


def test_clips_without_video_train_what_they_have_and_the_run_says_so(opened, folder: Path) -> None:
    run = opened(BOTH, "tasks=emotion", "max_steps=1", corpus="some")
    said = "4 of 12 clips have no video, such as 1.wav: these train and are scored on waveform alone"
    assert run.warnings == (said,)
    batch = run.source(list(run.manifest))
    states = batch.streams["video"].states
    lacking = [number for number, clip in enumerate(run.manifest) if clip.path.endswith(".wav")]
    assert len(lacking) == 4
    assert [number for number in range(12) if not states[number].any()] == lacking
    train_fold(run, run.folds[0], "")
    predictor = load_model(run.folder.fold(run.folds[0].name) / "model", any_sound=True)
    row, film = predictor.predict([str(folder / "some" / "1.wav"), str(folder / "some" / "0.mp4")])
    assert row["error"] == f"there is no video, which {predictor.model.upstream.name} looks at." and "emotion" in film
    scored = evaluate_model(predictor.model, str(folder / "some" / "table.csv"), None)
    assert said in scored["warnings"]
    for call in (lambda: predictor.stream(16_000), lambda: list(predictor.predict_long(film["file"]).rows)):
        with pytest.raises(ValueError, match="for sound alone, and .* looks at pictures too. Predict whole files"):
            call()
    with pytest.raises(ValueError, match="cannot be exported to ONNX: it looks at pictures"):
        upstream_graph(predictor.model.upstream.streams["video"])


@pytest.mark.parametrize("mode", ["frozen", "finetune"])
def test_a_corpus_of_sound_trains_the_sound(
    mode: str, small_corpus: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its waveform alone, then both streams; the model then takes sound files, windows, and of a film the sound."""
    words = ("tasks=emotion", "max_steps=2", "eval_every=1", "alone_first=true", f"streams.video.mode={mode}")
    run = open_run(sound_config(small_corpus, folder, *words), tmp_path / "sound", Display(quiet=True))
    assert run.warnings == ("audio only: none of 64 clips has video; all train and are scored on waveform alone",)
    trained, once = [], run_fold._fit_once
    monkeypatch.setattr(
        run_fold,
        "_fit_once",
        lambda own, place, *rest, **given: trained.append(place.name) or once(own, place, *rest, **given),
    )
    train_fold(run, run.folds[0], "")
    assert trained == ["waveform", run.folds[0].name]
    tested = run.folder.fold_predictions(run.folds[0].name)
    predictor = load_model(run.folder.fold(run.folds[0].name) / "model", any_sound=True)
    clips = run.manifest.select(tested.ids[:3])
    rows = predictor.predict([clip.path for clip in clips])
    labels = tested.tasks[0].labels
    found = [[row["emotion"]["scores"][label] for label in labels] for row in rows]
    np.testing.assert_allclose(found, tested.scores["emotion"][:3], atol=1e-5)
    (whole,) = predictor.predict_long(clips[0].path, window=60.0).rows
    assert whole["emotion"]["scores"] == pytest.approx(rows[0]["emotion"]["scores"], abs=1e-5)
    film = folder / "all" / "1.mp4"
    sound, rate = read_audio(film, RATE).numpy(), RATE
    of_film, of_sound = predictor.predict([film, (sound, rate)])
    assert of_film["emotion"]["scores"] == pytest.approx(of_sound["emotion"]["scores"], abs=1e-6)
    scored = evaluate_model(predictor.model, str(folder / "some" / "table.csv"), None)
    assert "audio only: no clip of the model's training had video, and it looks at none" in scored["warnings"]


def sound_config(corpus: Path, folder: Path, *words: str) -> RunConfig:
    """Both streams of the small system, on a corpus of files of sound."""
    preset = load_system("tzirakis2017:frozen") | {"streams": {}, "upstream": BOTH.format(folder / "resnet")}
    return make_config({"corpus": str(corpus)}, [*WORDS, f"store={folder / 'store'}", *words], preset=preset)


@pytest.mark.parametrize("kind", ["wav", "mp4"])
def test_what_to_type_next_predicts_a_file_of_what_was_trained_on(
    kind: str, small_corpus: Path, folder: Path, tmp_path: Path
) -> None:
    corpus = small_corpus if kind == "wav" else folder / "some" / "table.csv"
    upstream = f"upstream={BOTH.format(folder / 'resnet')}"
    words = ("--system", "tzirakis2017:frozen", upstream, *WORDS, f"store={folder / 'store'}", "tasks=emotion")
    outcome = undertone("train", corpus, *words, "max_steps=1", "--out", tmp_path / "run")
    assert outcome.status == 0, outcome.err
    (line,) = [line for line in outcome.out.splitlines() if "undertone predict" in line]
    *_, run, file = line.split()
    assert file == f"FILE.{kind}"
    clip = next(corpus.parent.rglob(f"*.{kind}"))
    predicted = undertone("predict", run, clip, "--any-sound")
    assert predicted.status == 0 and "emotion" in predicted.out, predicted.err


def test_a_clip_without_video_is_no_clip_of_pictures_alone(opened) -> None:
    with pytest.raises(
        ValueError, match="4 of 12 clips have no video, such as 1.wav. Leave them out, or give a stream"
    ):
        opened(VIDEO, "tasks=emotion", corpus="some")


def test_what_changes_the_sound_leaves_the_pictures(opened, folder: Path, tmp_path: Path) -> None:
    run = opened(BOTH, "tasks=emotion", "augment.noise=0,5", "augment.share=1")
    clips = run.manifest.select(run.manifest.ids[:2])
    augmenter = run.training_of_everyone(run.config).augmenter(torch.device("cpu"))
    assert augmenter is not None
    changed, clean = augmenter(clips, 3)[0], run.source(clips)
    assert isinstance(changed, StreamBatch)
    torch.testing.assert_close(changed.streams["video"].states, clean.streams["video"].states, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(changed.streams["waveform"].states, clean.streams["waveform"].states, atol=1e-2)
    for word in ("augment.speed=0.1", "augment.mixup=0.2"):
        with pytest.raises(ValueError, match=f"{word.split('=')[0]} changes the sound, and not the pictures"):
            open_run(
                config_of(folder, BOTH, "tasks=emotion", "streams.video.mode=finetune", word),
                tmp_path / "no",
                Display(quiet=True),
            )


def test_the_store_knows_a_clip_by_its_pictures_too(opened, folder: Path, tmp_path: Path) -> None:
    """One sound with two videos, and with boxes, are three clips; of sound alone they are one."""
    run = opened(BOTH, "tasks=emotion")
    store, sound = run.source.parts["video"].store, run.source.parts["waveform"].store
    films = [str(write_video(tmp_path / f"{level}.mp4", [level] * 4)) for level in (10, 200)]
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("time,left,top,width,height\n0,0,0,20,20\n")
    own = {"audio_hash": "a", "duration": 0.8}
    clips = [Utterance("1", "x.wav", video=film, **own) for film in films]
    clips.append(Utterance("2", "x.wav", video=films[0], boxes=str(boxes), **own))
    assert len({store.key(clip) for clip in clips}) == 3 and {sound.key(clip) for clip in clips} == {"a"}
    before = store.key(clips[0])
    Path(films[0]).rename(tmp_path / "moved.mp4")
    moved = Utterance("1", "x.wav", video=str(tmp_path / "moved.mp4"), **own)
    assert store.key(moved) == before


def test_a_table_names_the_video_and_the_faces(folder: Path, tmp_path: Path) -> None:
    """Sound, pictures and boxes in three files: the run has what the film itself gives, cut as the boxes say."""
    picture = np.full((48, 64, 3), 40, "u1")
    picture[8:40, 4:36] = 220
    noise, rows = 0.1 * np.random.default_rng(0).standard_normal((8, 12_800)), []
    for number in range(8):
        soundfile.write(tmp_path / f"{number}.wav", noise[number], RATE)
        rows.append(f"{number}.wav,film.mp4,boxes.csv,s{number % 4},{('happy', 'sad')[number // 4]}")
    write_video(tmp_path / "film.mp4", [picture] * 4)
    (tmp_path / "boxes.csv").write_text("time,left,top,width,height\n0,8,12,24,24\n")
    (tmp_path / "table.csv").write_text("\n".join(["file,video,boxes,speaker,emotion", *rows, ""]))
    config = config_of(folder, BOTH, "streams.video.mode=finetune").model_copy(
        update={"corpus": str(tmp_path / "table.csv"), "store": str(tmp_path / "store")}
    )
    run = open_run(config, tmp_path / "run", Display(quiet=True))
    assert run.warnings == ()
    clip = Manifest.load(tmp_path / "run" / "manifest")[0]
    assert (Path(str(clip.video)).name, Path(str(clip.boxes)).name) == ("film.mp4", "boxes.csv")
    batch = run.source([clip])
    assert isinstance(batch, StreamBatch) and isinstance(batch.streams["video"], WaveBatch)
    assert isinstance(batch.streams["waveform"], HiddenStates)
    assert batch.streams["video"].pictures[0].float().mean() == pytest.approx(220, abs=6)
    whole = WaveSource(RATE, sees=True)([Utterance("0", clip.path, video=clip.video)])
    assert whole.pictures[0].float().mean() < 180
    (tmp_path / "boxes.csv").write_text("time,left,top,width,height\n0,8,12,24,25\n")
    with pytest.raises(ValueError, match="boxes of 8 utterances .* of the corpus changed"):
        open_run(config, tmp_path / "run", Display(quiet=True))


@pytest.mark.parametrize(
    ("words", "upstream", "said"),
    [
        (("alone_first=true",), VIDEO, "alone_first trains each of several upstreams alone, and there is one"),
        (("alone_first=true", "head=svm", "head_options={}", "fusion=concat"), BOTH, "a solver fits head 'svm'"),
        (("streams.video.mode=lora",), BOTH, "Stream 'video': .* no linear layers in its blocks that LoRA could adapt"),
    ],
)
def test_what_cannot_be_is_refused(opened, words: tuple[str, ...], upstream: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        opened(upstream, "tasks=emotion", *words)


def test_a_video_that_is_shorter_than_its_sound_is_refused(folder: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", count=8)
    noise = 0.1 * np.random.default_rng(1).standard_normal(2 * RATE)
    write_video(corpus.parent / "3.mp4", [100] * 3, noise)
    config = config_of(folder, VIDEO, "tasks=emotion").model_copy(update={"corpus": str(corpus)})
    with pytest.raises(ValueError, match=r"1 files can no longer be read: .*3.mp4: its video ends at 0.60 s, earlier"):
        open_run(config, tmp_path / "run", Display(quiet=True))


def test_the_ablation_is_of_streams_and_of_how_they_are_joined(folder: Path) -> None:
    rows = {row.name: row for row in system_module("tzirakis2017").ABLATION}
    made = row_configs("tzirakis2017", "x")
    streams = {name: tuple(config.of_streams()) for name, config in made.items()}
    both = ("waveform", "video")
    assert streams == {"audio": both[:1], "video": both[1:], **dict.fromkeys(list(rows)[2:], both)}
    assert all(row.needs == "video" for name, row in rows.items() if name != "audio")
    assert {name for name, config in made.items() if config.alone_first} == {"both", "both-attention"}
    assert all(own["video"].mode == "finetune" for one in made.values() if "video" in (own := one.of_streams()))
    assert all(config.fusion is None for config in made.values())
    assert [name for name, config in made.items() if "fusion" in config.head_options] == ["both-attention"]
    assert json.dumps(sorted(made["both"].postprocess)) == '["centring", "delay", "median", "scaling"]'
