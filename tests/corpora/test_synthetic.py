"""The synthetic corpus: the same from the same seed, and no single cue gives its emotions away."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from undertone.audio.read import read_samples
from undertone.corpora import load_corpus
from undertone.corpora.manifest import Manifest
from undertone.corpora.prepare import prepare
from undertone.corpora.synthetic import SAMPLE_RATE, Prosody, Synthetic, Voice, speak
from undertone.tests.cli.commands import undertone
from undertone.training.targets import read_series


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    prepared = prepare(Synthetic(), tmp_path_factory.mktemp("synthetic"))
    assert not prepared.broken and not prepared.warnings
    assert prepared.formats == {(SAMPLE_RATE, 1): 256}
    return prepared.manifest


@pytest.fixture(scope="module")
def cues(manifest: Manifest) -> np.ndarray:
    """(256, 6): mean pitch, its slope and spread in semitones, energy and tilt in dB, syllables a second."""
    return np.array([measure(read_samples(utterance.path)[0]) for utterance in manifest])


def pitch_track(samples: np.ndarray) -> np.ndarray:
    """(frames, 2): place and pitch in Hz of the voiced 50 ms windows, by the peak of the autocorrelation."""
    track = []
    for start in range(0, len(samples) - 800, 320):
        power = np.abs(np.fft.rfft(samples[start : start + 800], 2048)) ** 2
        correlation = np.fft.irfft(power)[:267]
        lag = 40 + int(np.argmax(correlation[40:]))  # 60 to 400 Hz
        if correlation[lag] > 0.5 * correlation[0]:
            track.append((start / len(samples), SAMPLE_RATE / lag))
    return np.array(track)


def measure(samples: np.ndarray) -> list[float]:
    place, hz = pitch_track(samples).T
    pitch = 12 * np.log2(hz)
    spectrum, frequency = np.abs(np.fft.rfft(samples)) ** 2, np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
    tilt = 10 * np.log10(spectrum[frequency > 1500].sum() / spectrum[frequency < 1500].sum())
    loudness = np.convolve(np.abs(samples), np.hanning(800), "same")[::160]
    inner = loudness[1:-1]
    peaks = (inner > loudness[:-2]) & (inner > loudness[2:]) & (inner > 0.3 * loudness.max())
    rate = peaks.sum() / (len(samples) / SAMPLE_RATE)
    return [pitch.mean(), np.polyfit(place, pitch, 1)[0], pitch.std(), 10 * np.log10(np.mean(samples**2)), tilt, rate]


def uar(features: np.ndarray, emotions: np.ndarray, manifest: Manifest) -> float:
    """Of a logistic regression on speakers that it was not trained on."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    guesses = cross_val_predict(model, features, emotions, groups=manifest.column("speaker"), cv=LeaveOneGroupOut())
    return float(recall_score(emotions, guesses, average="macro"))


def per_speaker(features: np.ndarray, manifest: Manifest) -> np.ndarray:
    """Standardised over each speaker: as a listener who knows the voice does."""
    speakers, out = np.array(manifest.column("speaker")), features.copy()
    for speaker in set(speakers):
        own = features[speakers == speaker]
        out[speakers == speaker] = (own - own.mean(0)) / own.std(0)
    return out


def test_what_is_in_it(manifest: Manifest) -> None:
    assert len(manifest) == 256
    assert {(u.speaker, u.gender) for u in manifest} == {
        (f"{letter}{number}", gender) for letter, gender in (("F", "female"), ("M", "male")) for number in range(1, 5)
    }
    assert {manifest.column("emotion").count(emotion) for emotion in ("angry", "happy", "neutral", "sad")} == {64}
    assert 0.5 < min(manifest.column("duration")) and max(manifest.column("duration")) < 2.5
    for dimension in ("arousal", "valence", "dominance"):
        assert all(0 <= value <= 1 for value in manifest.column(dimension)) and np.std(manifest.column(dimension)) > 0.1


def test_mean_pitch_alone_does_not_tell_the_emotions(manifest: Manifest, cues: np.ndarray) -> None:
    emotions = np.array(manifest.column("emotion"))
    assert uar(cues[:, :1], emotions, manifest) < 0.6
    assert uar(per_speaker(cues[:, :1], manifest), emotions, manifest) < 0.7


def test_no_cue_alone_does_but_together_they_do(manifest: Manifest, cues: np.ndarray) -> None:
    emotions = np.array(manifest.column("emotion"))
    alone = [uar(cues[:, [column]], emotions, manifest) for column in range(cues.shape[1])]
    assert max(alone) < 0.7
    together = uar(cues, emotions, manifest)
    assert 0.7 < together < 0.97 and together > max(alone) + 0.1


def test_every_cue_carries_some_of_it(manifest: Manifest, cues: np.ndarray) -> None:
    """One-way F of each cue, standardised by speaker, is far above that of noise (5 % of it exceed 2.6)."""
    emotions = np.array(manifest.column("emotion"))
    for column in per_speaker(cues, manifest).T:
        groups = [column[emotions == emotion] for emotion in sorted(set(emotions))]
        between = sum(len(group) * (group.mean() - column.mean()) ** 2 for group in groups) / 3
        within = sum(((group - group.mean()) ** 2).sum() for group in groups) / (len(column) - 4)
        assert between / within > 8


def test_shuffled_labels_land_at_chance(manifest: Manifest, cues: np.ndarray) -> None:
    emotions = np.array(manifest.column("emotion"))
    shuffled = [uar(cues, np.random.default_rng(seed).permutation(emotions), manifest) for seed in range(5)]
    spread = np.sqrt(0.25 * 0.75 / len(emotions))  # of one UAR at chance, balanced classes
    assert abs(np.mean(shuffled) - 0.25) < 2 * spread and max(abs(np.array(shuffled) - 0.25)) < 4 * spread


def test_women_speak_higher_than_men(manifest: Manifest, cues: np.ndarray) -> None:
    female = np.array(manifest.column("gender")) == "female"
    assert cues[female, 0].mean() - cues[~female, 0].mean() > 6  # semitones


def test_a_seed_gives_the_same_bytes_in_any_process_and_another_seed_others(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from undertone.corpora.synthetic import Synthetic;"
        "list(Synthetic(seed=3, num_speakers=2, per_emotion=1).rows(Path(sys.argv[1])))"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "other"], check=True)
    rows = list(Synthetic(seed=3, num_speakers=3, per_emotion=2).rows(tmp_path / "here"))
    others = sorted((tmp_path / "other").rglob("*.wav"))
    assert len(others) == 8 and len(rows) == 24
    for path in others:  # the smaller corpus is a part of the larger one
        assert path.read_bytes() == (tmp_path / "here" / path.relative_to(tmp_path / "other")).read_bytes()
    next_seed = next(Synthetic(seed=4).rows(tmp_path / "here"))
    assert next_seed["path"].read_bytes() != rows[0]["path"].read_bytes()
    assert next_seed["arousal"] != rows[0]["arousal"]


def test_over_time_a_recording_is_the_utterances_of_all_emotions_and_their_scores(tmp_path: Path) -> None:
    alone = list(Synthetic(num_speakers=2, per_emotion=2).rows(tmp_path))
    recordings = list(Synthetic(num_speakers=2, per_emotion=2, over_time=True).rows(tmp_path))
    assert [row["id"] for row in recordings] == ["F1_01", "F1_02", "M1_01", "M1_02"]
    assert all("emotion" not in row and "arousal" not in row for row in recordings)
    found = set()
    for recording in recordings:
        take = recording["id"].split("_")[1]
        own = [row for row in alone if row["speaker"] == recording["speaker"] and row["id"].endswith(take)]
        parts = {row["emotion"]: read_samples(row["path"])[0] for row in own}
        samples, values = read_samples(recording["path"])[0], read_series(recording["series"])
        order, place = [], 0
        while place < len(samples):  # which utterance begins here
            order.append(next(one for one, part in parts.items() if np.array_equal(samples[place:][: len(part)], part)))
            middle = (place + len(parts[order[-1]]) / 2) / SAMPLE_RATE
            for name in ("arousal", "valence", "dominance"):
                expected = next(row[name] for row in own if row["emotion"] == order[-1])
                assert np.interp(middle, values["time"], values[name]) == pytest.approx(expected, abs=1e-4)
            place += len(parts[order[-1]])
        assert sorted(order) == sorted(parts)
        found.add(tuple(order))
        assert np.diff(values["time"]) == pytest.approx(0.04) and values["time"][-1] * SAMPLE_RATE < len(samples)
        assert abs(np.diff(values["arousal"])).max() < 0.06  # from one utterance to the next in half a second
    assert len(found) > 1, "each recording has an order of its own"
    with pytest.raises(ValueError, match="Corpus 'synthetic': over_time must be true or false, got 'yes'"):
        load_corpus("synthetic", {"over_time": "yes"})


def test_values_over_time_are_learned_from_the_command_line(tmp_path: Path) -> None:
    words = ("corpus.over_time=true", "corpus.num_speakers=4", "corpus.per_emotion=3", "protocol=groups", "num_folds=2")
    words = (*words, "tasks=series.arousal", "max_epochs=25", "batch_size=4", "learning_rate=5e-3", "device=cpu")
    paths = ("--root", tmp_path / "audio", "--store", tmp_path / "store", "--out", tmp_path / "run")
    outcome = undertone("crossval", "synthetic", "--upstream", "fbank", "--head", "frames", *paths, *words)
    assert outcome.status == 0, outcome.err
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["pooled"]["arousal"]["ccc"] > 0.3 and results["corpus_variant"] == "over time"


def test_what_is_there_is_not_made_again_and_what_is_missing_is(tmp_path: Path) -> None:
    corpus = Synthetic(num_speakers=1, per_emotion=1)
    rows = list(corpus.rows(tmp_path))
    before = {row["path"]: (row["path"].stat().st_mtime_ns, row["path"].read_bytes()) for row in rows}
    rows[0]["path"].unlink()
    assert list(corpus.rows(tmp_path)) == rows
    assert rows[0]["path"].read_bytes() == before[rows[0]["path"]][1]
    assert all(row["path"].stat().st_mtime_ns == before[row["path"]][0] for row in rows[1:])
    assert {path.name for path in (tmp_path / "seed0").iterdir()} == {row["path"].name for row in rows}


@pytest.mark.parametrize("arguments", [{"seed": -1}, {"num_speakers": 0}, {"per_emotion": 0}])
def test_numbers_too_small(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="needs seed >= 0, num_speakers >= 1 and per_emotion >= 1; got"):
        Synthetic(**arguments)


def test_the_voice_has_the_prosody_that_is_asked_for() -> None:
    """Without accents and drift aside, the measured pitch is the one asked for, and so are energy and tilt."""
    voice = Voice(pitch_hz=120, formant_scale=1, tilt_db=10, rate_hz=4.5, gain_db=0, breath=0.02)
    plain = dict(pitch_st=0.0, slope_st=0.0, accent_st=0.0, rate=1.0, energy_db=0.0, tilt_db=0.0)

    def utter(**changes: float) -> list[float]:
        return measure(speak(voice, Prosody(**plain | changes), np.random.default_rng(1)))

    here = utter()
    assert here[0] == pytest.approx(12 * np.log2(120), abs=0.5)
    assert utter(pitch_st=5)[0] - here[0] == pytest.approx(5, abs=0.3)
    assert utter(slope_st=4)[1] - here[1] == pytest.approx(4, abs=0.6)
    assert utter(energy_db=6)[3] - here[3] == pytest.approx(6, abs=0.2)
    assert utter(tilt_db=8)[4] < here[4] - 2
    assert len(speak(voice, Prosody(**plain | {"rate": 0.5}), np.random.default_rng(1))) > 16000
