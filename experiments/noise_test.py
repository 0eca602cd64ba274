"""A finished run in noise: each fold's model on its test utterances, with noise added at test time only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from undertone.audio.augment import add_noise, noise_of_length, read_noises, white_noise
from undertone.common.console import Display
from undertone.corpora.manifest import Manifest, Utterance
from undertone.corpora.prepare import check_unchanged
from undertone.downstream.model import UndertoneModel
from undertone.downstream.network import LiveModel
from undertone.experiments.run_folder import RunFolder
from undertone.scoring.postprocess import apply_chains
from undertone.scoring.predictions import Predictions
from undertone.scoring.results import number, score
from undertone.training.accelerator import make_accelerator
from undertone.training.prediction_loop import predict
from undertone.training.seeding import generator_of
from undertone.training.sources import WaveSource
from undertone.upstream.types import WaveBatch

WHITE = "white"
SNRS = (20.0, 10.0, 5.0, 0.0)
BATCH_SIZE = 16


class NoisySource:
    """Audio with noise; an utterance gets the same segment of noise at every ratio.

    Args:
        sample_rate: Hz.
        noises: {name: (N,) samples} to choose from for each utterance; empty: white noise.
        snr_db: of each whole utterance; None: no noise.
        seed: decides which segment of which noise.
    """

    jitter: ClassVar[float] = WaveSource.jitter

    def __init__(self, sample_rate: int, noises: Mapping[str, Tensor], snr_db: float | None, seed: int) -> None:
        self.waves, self.noises, self.snr_db, self.seed = WaveSource(sample_rate), dict(noises), snr_db, seed

    def __call__(self, utterances: Sequence[Utterance]) -> WaveBatch:
        """Read, resample, mix and pad."""
        clean = self.waves(utterances)
        if self.snr_db is None:
            return clean
        waves = [
            add_noise(wave[:length], self._noise(utterance, length), self.snr_db)
            for utterance, wave, length in zip(utterances, clean.samples, clean.lengths.tolist(), strict=True)
        ]
        return WaveBatch.collate(waves, clean.sample_rate)

    def _noise(self, utterance: Utterance, length: int) -> Tensor:
        generator = generator_of(self.seed, "noise", *sorted(self.noises), utterance.id)
        if not self.noises:
            return white_noise(length, generator)
        names = sorted(self.noises)
        name = names[int(torch.randint(len(names), (1,), generator=generator))]
        return noise_of_length(self.noises[name], length, generator)


def noise_test(
    run: Path,
    noise: Path | None = None,
    snrs: Sequence[float] = SNRS,
    seed: int = 0,
    device: str = "auto",
    display: Display | None = None,
) -> dict[str, Any]:
    """Score a run's models on their folds' test utterances in noise.

    Args:
        run: a finished run.
        noise: a folder of noises, or one file; None: white noise only.
        snrs: signal-to-noise ratios, dB; clean speech is scored as well.
        seed: decides which segment of which noise an utterance gets.
        device: auto, cpu or cuda.
        display: where progress is shown.

    Returns:
        `task` of the first task, `snrs` and `scores` {noise: {"clean" or the ratio as text: {metric: value}}}, each
        pooled over all folds.
    """
    folder = RunFolder.finished(run)
    if not folder.config:
        raise ValueError(f"{run} is an evaluation, which has no models. Give a run of `undertone crossval --out`.")
    allow = (folder.config["head"], folder.config["upstream"])
    manifest = Manifest.load(run / "manifest")
    check_unchanged(manifest)
    accelerator = make_accelerator(device)
    found: dict[tuple[str, str], list[Predictions]] = {}
    with (display or Display()).bar("noise") as advance:
        for done, fold in enumerate(folder.results["folds"], 1):
            model = UndertoneModel.from_pretrained(folder.fold(fold["name"]) / "model", allow=allow)
            module = LiveModel(model.upstream, model.downstream).to(accelerator.device)
            utterances = manifest.select(dict.fromkeys(folder.fold_predictions(fold["name"]).ids))
            for key, source in _sources(model.sample_rate, noise, snrs, seed).items():
                predictions = predict(module, model.tasks, source, utterances, accelerator, BATCH_SIZE)
                found.setdefault(key, []).append(apply_chains(fold.get("postprocess", {}), predictions))
            advance(done, len(folder.fold_names), "")
    task = folder.results["tasks"][0]["name"]
    scores: dict[str, dict[str, Any]] = {}
    for (kind, level), parts in found.items():
        scores.setdefault(kind, {})[level] = score(Predictions.concat(parts))[task]
    return {"task": task, "snrs": list(snrs), "seed": seed, "scores": scores}


def _sources(
    sample_rate: int, noise: Path | None, snrs: Sequence[float], seed: int
) -> dict[tuple[str, str], NoisySource]:
    """{(noise, `clean` or the ratio as text): audio with it}."""
    kinds: dict[str, dict[str, Tensor]] = {WHITE: {}}
    if noise is not None:
        kinds[noise.name] = read_noises(noise, sample_rate)
    levels = {"clean": None} | {f"{snr:g}": snr for snr in snrs}
    return {
        (kind, level): NoisySource(sample_rate, noises, snr, seed)
        for kind, noises in kinds.items()
        for level, snr in levels.items()
    }


def noise_table(tested: Mapping[str, Any]) -> tuple[list[str], list[str], list[list[str]]]:
    """Title lines, header and rows of text of what `noise_test` returned: the first metric by signal-to-noise ratio."""
    columns = ["clean", *(f"{snr:g}" for snr in tested["snrs"])]
    any_kind = next(iter(tested["scores"].values()))
    metric = next(name for name in ("uar", "ccc") if name in any_kind["clean"])
    titles = [
        f"{metric.upper()} of {tested['task']}, pooled over the folds; noise was added at test time only, seed "
        f"{tested['seed']}, at the signal-to-noise ratio in dB over each utterance."
    ]
    rows = [
        [kind, *(number(metric, scores[column][metric]) for column in columns)]
        for kind, scores in tested["scores"].items()
    ]
    return titles, ["Noise", *columns], rows
