"""What a description says of a corpus, against numbers worked by hand and published ones."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import soundfile
from scipy.signal import resample

from undertone.corpora.describe import agreement, describe, measure_signal, measure_signals, narrow, rows
from undertone.corpora.own.table import Table
from undertone.corpora.prepare import prepare


def noise(seconds: float, rate: int, seed: int = 0, level: float = 0.3) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-level, level, round(seconds * rate)).astype(np.float32)


def test_level_is_that_of_a_sine() -> None:
    sine = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    signal = measure_signal(sine.astype(np.float32), 16000)
    assert signal.level == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.01)
    assert signal.bandwidth == pytest.approx(1000, abs=80) and signal.duration == 1 and signal.clipped == 0


def test_runs_at_full_scale_are_clipping_and_single_samples_are_not() -> None:
    samples = noise(1.0, 16000)
    samples[[10, 50, 51]] = 1.0
    assert measure_signal(samples, 16000).clipped == 0
    samples[100:104] = -1.0
    samples[-3:] = 1.0
    assert measure_signal(samples, 16000).clipped == 7 / 16000


def test_8_khz_audio_stored_at_16_khz_is_recognised() -> None:
    wide = [measure_signal(noise(1.0, 16000, seed), 16000) for seed in range(20)]
    up = [resample(noise(1.0, 8000, seed), 16000) for seed in range(20)]
    stored = [(np.round(32767 * samples) / 32767).astype(np.float32) for samples in up]
    telephone = [measure_signal(samples, 16000) for samples in stored]
    assert narrow(wide) == [] and all(signal.bandwidth > 7900 for signal in wide)
    (sentence,) = narrow(telephone)
    assert all(3900 < signal.bandwidth < 4700 for signal in telephone)
    assert sentence.startswith("95 % of the 20 utterances at 16000 Hz have nothing above 4")


def test_alpha_is_krippendorffs_published_one() -> None:
    """The example C of Computing Krippendorff's Alpha-Reliability (2011): four observers, nominal data, 0.743."""
    observers = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."]  # a column is a unit, a dot no vote
    columns = ["".join(one) for one in zip(*observers, strict=True)]
    votes = [dict(Counter(column.replace(".", ""))) for column in columns]
    found = agreement([vote for vote in votes if vote])
    assert found is not None and found["num"] == 11
    assert found["alpha"] == pytest.approx(0.743, abs=0.0005)


def test_alpha_of_perfect_and_of_no_agreement() -> None:
    assert agreement([{"sad": 3}, {"angry": 2}]) == {"num": 2, "votes": 2.5, "pairs": 1.0, "alpha": 1.0}
    assert agreement([{"sad": 2}, {"sad": 3}])["alpha"] is None  # type: ignore[index]
    assert agreement([{"sad": 1}]) is None
    assert agreement([{"sad": 1, "angry": 1}] * 2)["alpha"] < 0  # type: ignore[index]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Table:
    folder = tmp_path_factory.mktemp("described")
    lines = ["file,speaker,gender,emotion,votes,arousal"]
    for number in range(8):
        soundfile.write(folder / f"{number}.wav", noise(0.5 + 0.1 * number, 16000, min(number, 6)), 16000)
        emotion = "angry" if number < 6 else "sad"
        lines.append(f"{number}.wav,s{number % 2},{'fm'[number % 2]},{emotion},{emotion}:2;calm:1,{number / 8}")
    (folder / "7.wav").write_bytes((folder / "6.wav").read_bytes())
    (folder / "t.csv").write_text("\n".join(lines))
    return Table(folder / "t.csv")


def test_the_facts(corpus: Table) -> None:
    prepared = prepare(corpus, None)
    facts = describe(prepared, measure_signals(prepared.manifest))
    assert facts["num"] == 8 and facts["speakers"] == {"s0": 4, "s1": 4}
    assert facts["labels"] == {
        "angry": {"female": 3, "male": 3, "all": 6},
        "sad": {"female": 1, "male": 1, "all": 2},
    }
    assert facts["duration"]["least"] == 0.5 and facts["hours"] == pytest.approx(6.7 / 3600)
    assert (facts["same_audio"], facts["shared_audio"], facts["clipped"]) == (1, 2, 0)
    assert facts["dimensions"]["arousal"]["most"] == 0.875
    assert "6.wav and 7.wav hold the same audio." in facts["notes"]
    table = dict(map(tuple, rows(facts)))
    assert table["balance"] == "from 75.0 % angry, the WA of always predicting it, to 25.0 % sad"
    equal = dict(map(tuple, rows(facts | {"labels": {"angry": {"all": 2}, "sad": {"all": 2}}})))
    assert equal["balance"] == "50.0 % each, the WA of always predicting the same"
    assert table["speakers"] == "2, with 4 each" and table["duplicates"] == "1 with the audio of another, 2 share some"
    assert table["raters"].startswith("Krippendorff's alpha ") and "(8 utterances)" in table["raters"]
