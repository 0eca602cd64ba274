"""A finished run on disturbed audio: each fold's model on its test utterances, changed at test time only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from undertone.audio.augment import (
    add_noise,
    change_speed,
    noise_of_length,
    read_noises,
    reverberate,
    room_response,
    white_noise,
)
from undertone.audio.channel import CODECS, band_limited, clipped_level, through_codec
from undertone.audio.read import read_audio
from undertone.common.console import Display
from undertone.corpora.manifest import Manifest, Utterance
from undertone.corpora.prepare import check_unchanged
from undertone.downstream.model import UndertoneModel
from undertone.downstream.network import LiveModel
from undertone.downstream.task import Task
from undertone.experiments.run_folder import RunFolder
from undertone.scoring.compare import paired
from undertone.scoring.postprocess import apply_chains
from undertone.scoring.predictions import Predictions
from undertone.scoring.results import MAIN, METRICS, ends_text, number, per_gender, score, signed, to_json
from undertone.training.accelerator import make_accelerator
from undertone.training.prediction_loop import predict_and_embed
from undertone.training.seeding import generator_of
from undertone.training.sources import WaveSource, batch_of
from undertone.training.values import named_upstreams
from undertone.upstream.types import WaveBatch

BATCH_SIZE = 16
SNRS = (20.0, 10.0, 5.0, 0.0)  # dB
BANDS = {"300 to 3400 Hz": (300, 3400), "to 4 kHz": (0, 4000), "to 2 kHz": (0, 2000), "to 1 kHz": (0, 1000)}
GAINS = (-20, -10, 10, 20)  # dB
SPEEDS = (0.8, 0.9, 1.1, 1.25)
REVERBS = (0.3, 0.6, 1.0)  # s
KINDS = {
    "noise": "Noise, by signal-to-noise ratio",
    "codec": "Codecs",
    "band": "Band limits",
    "gain": "Gain, clipped at full scale",
    "speed": "Speed and pitch",
    "reverb": "Reverberation (simulated), by time to -60 dB",
}
CLEAN = "clean"

Change = Callable[[Tensor, torch.Generator], Tensor]  # (N,) samples -> (N',); random only through the generator


class DisturbedSource:
    """Audio with a change, or as recorded; what is random depends on the seed and the utterance, not on the level."""

    jitter: ClassVar[float] = WaveSource.jitter

    def __init__(self, sample_rate: int, change: Change | None, seed: int, sees: bool = False) -> None:
        self.sample_rate, self.change, self.seed, self.sees = sample_rate, change, seed, sees

    def __call__(self, utterances: Sequence[Utterance]) -> WaveBatch:
        """Read, resample, change and pad."""
        if self.change is None:
            return WaveSource(self.sample_rate, self.sees)(utterances)
        waves = [
            self.change(
                read_audio(item.path, self.sample_rate, item.start, item.end), generator_of(self.seed, "noise", item.id)
            )
            for item in utterances
        ]
        return batch_of(waves, utterances, self.sample_rate, self.sees)


def changes(
    sample_rate: int, kinds: Sequence[str], noise: Path | None = None, snrs: Sequence[float] = SNRS
) -> dict[tuple[str, str], Change]:
    """{(kind, name of the condition): change} of the chosen kinds, in order; see `robustness`.

    A ValueError names an unknown kind, or says that there is no noise in `noise`.
    """
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise ValueError(f"There is no disturbance {unknown[0]!r}. Choose from {', '.join(KINDS)}.")
    noises: dict[str, list[Tensor]] = {"white": []}
    if noise is not None and "noise" in kinds:
        noises[noise.name] = list(read_noises(noise, sample_rate).values())
    found: dict[str, dict[str, Change]] = {
        "noise": {
            f"{name}, {snr:g} dB": partial(_noisy, noises=some, snr_db=snr)
            for name, some in noises.items()
            for snr in snrs
        },
        "codec": {name: _without_chance(through_codec, sample_rate, codec) for name, codec in CODECS.items()},
        "band": {
            name: _without_chance(band_limited, sample_rate, low, high)
            for name, (low, high) in BANDS.items()
            if high < sample_rate / 2
        },
        "gain": {f"{gain:+d} dB": _without_chance(clipped_level, gain) for gain in GAINS},
        "speed": {f"x {factor:g}": _without_chance(change_speed, factor, sample_rate) for factor in SPEEDS},
        "reverb": {f"{one:g} s": partial(_reverberant, sample_rate=sample_rate, reverb_s=one) for one in REVERBS},
    }
    return {(kind, name): change for kind in KINDS if kind in kinds for name, change in found[kind].items()}


def _noisy(wave: Tensor, generator: torch.Generator, noises: Sequence[Tensor], snr_db: float) -> Tensor:
    """Noise at a ratio: a segment of one of the recordings, or white noise where there are none."""
    if not noises:
        return add_noise(wave, white_noise(len(wave), generator), snr_db)
    chosen = noises[int(torch.randint(len(noises), (1,), generator=generator))]
    return add_noise(wave, noise_of_length(chosen, len(wave), generator), snr_db)


def _without_chance(change: Callable[..., Tensor], *settings: Any) -> Change:
    """A change of (N,) samples with these settings, in which nothing is random."""
    return lambda wave, _: change(wave, *settings)


def _reverberant(wave: Tensor, generator: torch.Generator, sample_rate: int, reverb_s: float) -> Tensor:
    """A simulated room, drawn for each utterance."""
    return reverberate(wave, room_response(reverb_s, sample_rate, generator))


def robustness(
    run: Path,
    kinds: Sequence[str] = tuple(KINDS),
    noise: Path | None = None,
    snrs: Sequence[float] = SNRS,
    seed: int = 0,
    device: str = "auto",
    display: Display | None = None,
) -> dict[str, Any]:
    """Score a run's models on their folds' test utterances, as recorded and changed.

    Args:
        run: a finished run.
        kinds: of `KINDS`; speed is left out of tasks with values over time and of video, whose times it would move.
        noise: a folder of noises, or one file, beside white noise.
        snrs: signal-to-noise ratios, dB.
        seed: decides which segment of which noise an utterance gets, and which room.
        device: auto, cpu or cuda.
        display: where progress is shown.

    Returns:
        `task` and `metric`, of the first task; `seed`; `conditions`, the clean one first: each `kind`, `name`,
        `metrics`, `per_gender` {gender: value}, and (not of the clean one) `difference` from it with `ci95` and `p`,
        paired over speakers. All are pooled over the folds.
    """
    folder = RunFolder.finished(run)
    if not folder.config:
        raise ValueError(f"{run} is an evaluation, which has no models. Give a run of `undertone crossval --out`.")
    task = folder.tasks[0]
    kinds = [kind for kind in kinds if kind != "speed" or task.level != "frame"]
    changes(16_000, kinds, noise, snrs)  # what is wrong is said before anything is read
    allow = (folder.config["head"], *named_upstreams(folder.config["upstream"]).values())
    manifest = Manifest.load(run / "manifest")
    check_unchanged(manifest)
    accelerator = make_accelerator(device)
    found: dict[tuple[str, str], list[Predictions]] = {}
    with (display or Display()).bar("robustness") as advance:
        for done, fold in enumerate(folder.results["folds"]):
            model = UndertoneModel.from_pretrained(folder.fold(fold["name"]) / "model", allow=allow)
            module = LiveModel(model.upstream, model.downstream).to(accelerator.device)
            utterances = manifest.select(dict.fromkeys(folder.fold_predictions(fold["name"]).ids))
            used = [kind for kind in kinds if kind != "speed" or not model.upstream.sees]
            each = {(CLEAN, CLEAN): None, **changes(model.sample_rate, used, noise, snrs)}
            for place, (key, change) in enumerate(each.items(), 1):
                source = DisturbedSource(model.sample_rate, change, seed, model.upstream.sees)
                predictions, _ = predict_and_embed(module, model.tasks, source, utterances, accelerator, BATCH_SIZE)
                found.setdefault(key, []).append(apply_chains(fold.get("postprocess", {}), predictions))
                advance(done * len(each) + place, len(folder.fold_names) * len(each), f"fold {fold['name']}, {key[1]}")
    pooled = {key: Predictions.concat(parts) for key, parts in found.items()}
    clean = pooled[CLEAN, CLEAN]
    task = next(own for own in clean.tasks if own.name == task.name)
    entries = [_entry(kind, name, predictions, clean, task) for (kind, name), predictions in pooled.items()]
    return dict(to_json({"task": task.name, "metric": MAIN[task.kind][0], "seed": seed, "conditions": entries}))


def _entry(kind: str, name: str, predictions: Predictions, clean: Predictions, task: Task) -> dict[str, Any]:
    metric = MAIN[task.kind][0]
    genders = per_gender(predictions) if task.name != "gender" else {}
    entry = {
        "kind": kind,
        "name": name,
        "metrics": score(predictions)[task.name],
        "per_gender": {gender: scores[task.name][metric] for gender, scores in genders.items()},
    }
    if kind == CLEAN:
        return entry
    pair = paired(clean, predictions, task)
    return entry | {"difference": pair.difference, "ci95": pair.ci95, "p": pair.p}


def robustness_table(tested: Mapping[str, Any]) -> tuple[list[str], list[str], list[list[str]]]:
    """Title lines, header and rows of text of what `robustness` returned."""
    metric, clean = tested["metric"], tested["conditions"][0]
    genders = list(clean["per_gender"])
    rows = []
    for entry in tested["conditions"]:
        rows.append(
            [
                f"{entry['kind']}: {entry['name']}" if entry["kind"] != CLEAN else CLEAN,
                number(metric, entry["metrics"][metric]),
                signed(metric, entry["difference"]) if entry["kind"] != CLEAN else "",
                ends_text(metric, entry.get("ci95"), signed),
                *(number(metric, entry["per_gender"].get(gender)) for gender in genders),
            ]
        )
    titles = [
        f"{METRICS[metric]} of {tested['task']}, pooled over the folds. The audio was changed at test time only, with "
        f"seed {tested['seed']}; differences from the clean score, with 95 % intervals paired over speakers."
    ]
    return titles, ["Condition", METRICS[metric], "Difference", "95 % interval", *genders], rows
