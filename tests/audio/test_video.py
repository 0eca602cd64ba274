"""Pictures of a video at the times of a sound: those that went in, cut out, and every defect in one sentence."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from undertone.audio.read import AudioError
from undertone.audio.video import SIZE, content_key, find_video, read_pictures
from undertone.tests.audio.videos import RATE, write_video

av = pytest.importorskip("av")

LEVELS = (20, 70, 120, 170, 220)  # a picture every 0.2 s
NOISE = 0.1 * np.random.default_rng(0).standard_normal(RATE)


@pytest.fixture
def film(tmp_path: Path) -> str:
    return str(write_video(tmp_path / "film.mp4", LEVELS, NOISE))


def levels(pictures: torch.Tensor) -> list[float]:
    return pictures.float().mean((1, 2, 3)).tolist()


def test_the_picture_of_a_time_is_the_one_that_is_seen_then(film: str) -> None:
    times = 0.04 * (np.arange(25) + 0.5)
    found = read_pictures(film, times)
    assert found.shape == (25, SIZE, SIZE, 3) and found.dtype == torch.uint8
    np.testing.assert_allclose(levels(found), [LEVELS[int(time / 0.2)] for time in times], atol=3)
    later = read_pictures(film, times[13:])  # from a key frame before it, and through what follows
    assert torch.equal(later, found[13:])


def test_a_picture_is_held_where_the_video_is_a_little_short(film: str) -> None:
    assert levels(read_pictures(film, np.array([0.9, 1.2])))[1] == pytest.approx(220, abs=3)
    with pytest.raises(AudioError, match=r"film.mp4: its video ends at 1.00 s, earlier than the sound, .* 1.30 s"):
        read_pictures(film, np.array([0.9, 1.3]))
    with pytest.raises(AudioError, match=r"film.mp4: its video ends"):
        read_pictures(film, np.array([5.0]))


def test_the_middle_or_the_box_is_cut_out(tmp_path: Path) -> None:
    picture = np.zeros((48, 64, 3), "u1")
    picture[:, 8:56], picture[16:32, 16:40] = 100, 200  # the square in the middle, and the face in it
    film, boxes = str(write_video(tmp_path / "a.mp4", [picture] * 5)), tmp_path / "boxes.csv"
    whole = read_pictures(film, np.array([0.5]))[0].float()
    assert whole[4:-4, :4].mean() == pytest.approx(100, abs=6)  # nothing black is left
    boxes.write_text("time,left,top,width,height\n0,18,18,20,12\n0.6,0,0,6,48\n")
    face, dark = read_pictures(film, np.array([0.1, 0.7]), str(boxes)).float()
    assert face.mean() == pytest.approx(200, abs=6) and dark.mean() < 6
    boxes.write_text("time,left,top,width,height\n0.5,50,0,20,20\n")
    with pytest.raises(
        AudioError, match=r"the box at 0.70 s \(left 50, top 0, width 20, height 20\) is not inside its"
    ):
        read_pictures(film, np.array([0.7]), str(boxes))
    for text, said in (
        ("time,left\n0,1\n", "no table of boxes .*'top'.*: a CSV of time, left, top, width, height is expected"),
        ("time,left,top,width,height\n", "needs a row"),
        ("time,left,top,width,height\n0,1,1,nan,1\n", "a number in each cell"),
    ):
        boxes.write_text(text)
        with pytest.raises(AudioError, match=said):
            read_pictures(film, np.array([0.7]), str(boxes))


def test_where_a_clip_has_its_pictures(film: str, tmp_path: Path) -> None:
    sound = str(write_video(tmp_path / "sound.m4a", (), NOISE))
    assert find_video(film, None) == find_video(sound, film) == film
    assert find_video(sound, None) is None
    with pytest.raises(AudioError, match=r"sound.m4a: there is no video in the file\."):
        find_video(film, sound)
    with pytest.raises(AudioError, match=r"gone.mp4: no such file\."):
        find_video(sound, str(tmp_path / "gone.mp4"))
    before = content_key(film)
    write_video(Path(film), LEVELS[::-1], NOISE)
    assert content_key(film) != before


def test_a_video_that_begins_late(tmp_path: Path) -> None:
    film = str(write_video(tmp_path / "late.mp4", LEVELS, NOISE, delay=0.2))
    assert levels(read_pictures(film, np.array([0.1, 0.3]))) == pytest.approx([20, 20], abs=3)
    film = str(write_video(tmp_path / "later.mp4", LEVELS, NOISE, delay=0.4))
    with pytest.raises(AudioError, match=r"its video begins at 0.40 s, later than the sound at 0.02 s"):
        read_pictures(film, np.array([0.02]))


def test_a_damaged_video_and_no_reader(film: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(Path(film).read_bytes()[:300])
    with pytest.raises(AudioError, match=r"damaged.mp4: not readable as a video, or damaged: "):
        read_pictures(str(damaged), np.array([0.1]))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(AudioError, match=r"film.mp4: its pictures are read with PyAV: pip install 'undertone\[av\]'"):
        read_pictures(film, np.array([0.1]))
