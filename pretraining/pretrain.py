"""Self-supervised training of an upstream: speech in, an ordinary transformers folder out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psutil
import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import AutoConfig, AutoModel

from undertone.audio.read import read_audio
from undertone.common.console import Display
from undertone.common.files import read_json, write_json
from undertone.common.interrupt import interruptible
from undertone.pretraining.card import write_card
from undertone.pretraining.data import Speech, read_speech
from undertone.pretraining.masks import negatives, pad, span_mask
from undertone.pretraining.objectives import Contrastive, Losses, MaskedUnits, Objective, Targets, Workers
from undertone.pretraining.record import write_pretraining
from undertone.pretraining.settings import Pretraining
from undertone.pretraining.surroundings import Surroundings
from undertone.pretraining.units import KMeansUnits, Units, load_units, make_units, save_units
from undertone.training.accelerator import make_accelerator
from undertone.training.augmenter import Augmenter, check_cutoffs
from undertone.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from undertone.training.seeding import draw, epoch_batches, seed_everything, utterance_keys
from undertone.training.settings import refuse_changes
from undertone.training.sources import WaveSource
from undertone.upstream import load_upstream
from undertone.upstream.dropout import UtteranceDropout
from undertone.upstream.hf.adapt import add_lora, finetune, merge_lora
from undertone.upstream.hf.extractor import family_extractor
from undertone.upstream.hf.pretrained import prepare_config, quiet_transformers
from undertone.upstream.hf.upstream import FamilyUpstream, HFUpstream
from undertone.upstream.precision import safe_convolutions
from undertone.upstream.types import WaveBatch

if TYPE_CHECKING:
    from undertone.corpora.manifest import Utterance

# Conformers on log-mel energies, 25 frames a second, transformers' LASR. The energies are not normalised over the
# utterance, as wav2vec2-BERT's are: loudness and timbre tell emotion. docs/pretraining.md: what else was tried.
# Without dropout: it costs a sixth of the time, and hours of training do not overfit so few weights.
_CONFORMER: dict[str, Any] = {
    "num_mel_bins": 80,
    "subsampling_conv_channels": 64,
    "conv_kernel_size": 15,
    "num_attention_heads": 4,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
}
SIZES: dict[str, dict[str, Any]] = {
    "tiny": _CONFORMER | {"hidden_size": 160, "num_hidden_layers": 6, "intermediate_size": 384},
    "small": _CONFORMER | {"hidden_size": 256, "num_hidden_layers": 12, "intermediate_size": 1024},
}
JITTER = 0.1  # of the durations by which batches are made
COLLAPSED = 2  # units in even use
logger = logging.getLogger(__name__)


def pretrain(settings: Pretraining, out: Path, trusted: Path | None = None, display: Display | None = None) -> Path:
    """Train, or go on with a training that was interrupted; returns OUT, a folder that `load_upstream` reads.

    Checkpoints are in OUT/training; masks, crops, negatives and dropout depend on (seed, update, utterance), so that a
    resumed training ends with the same bits.

    Raises:
        ValueError: settings that do not fit together or to the upstream, other settings than those OUT was started
            with, or no speech.
    """
    display = display or Display()
    work = out / "training"
    started = settings.model_dump(mode="json")
    if settings.size is not None:
        started["model"] = SIZES[settings.size]  # of this version; another may make another model of that size
    if (work / "settings.json").is_file():
        refuse_changes(read_json(work / "settings.json"), started, f"{out} holds a pretraining")
    upstream = _upstream(settings)
    check_cutoffs(settings.augment, upstream.sample_rate)
    speech = read_speech(settings, trusted, display)
    for note in speech.notes:
        display.say(f"note: {note}")
    work.mkdir(parents=True, exist_ok=True)
    write_json(work / "settings.json", started)
    accelerator = make_accelerator(settings.device, settings.mixed_precision)
    seed_everything(settings.seed, "pretraining")
    objective = _objective(settings, upstream)
    _let_learn(settings, upstream)
    units = surroundings = None
    if settings.objective != "contrastive":
        units = _fitted(make_units(settings), work / "units.safetensors", settings, speech, display)
    if settings.objective == "workers":
        surroundings = _fitted(Surroundings(), work / "surroundings.safetensors", settings, speech, display)
    trainer = PretrainingLoop(settings, objective, (units, surroundings), speech.utterances, work, accelerator)
    seconds = sum(min(item.duration, settings.crop) for item in speech.utterances)
    trained = sum(weight.numel() for weight in upstream.parameters() if weight.requires_grad)
    display.say(f"{len(speech.utterances)} utterances, {seconds / 3600:.2f} h a pass; {trained:,} weights learn")
    with display.bar("pretrain") as advance:
        progress = trainer.run(lambda done, note: advance(done, settings.max_steps, note))
    if accelerator.is_main_process:
        if settings.mode == "lora":
            merge_lora(upstream)
        save_upstream(upstream, out)
        told = {"transductive": settings.transductive, "settings": settings.model_dump(mode="json")}
        write_pretraining(out, speech, told | {"steps": progress.step, "history": progress.history})
        write_card(out)
    accelerator.wait_for_everyone()
    return out


def _upstream(settings: Pretraining) -> HFUpstream:
    """The model to continue, or a new one with random weights."""
    if settings.size is None:
        return load_upstream(str(settings.upstream), revision=settings.revision)  # type: ignore[return-value]  # checked
    return new_upstream(settings.size, settings.seed)


def new_upstream(size: str, seed: int) -> FamilyUpstream:
    """One of `SIZES` with random weights."""
    config = prepare_config(AutoConfig.for_model("lasr_encoder", **SIZES[size]))
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        seed_everything(seed, "new model")
        model = AutoModel.from_config(config)
    return FamilyUpstream(model, size, do_normalize=False, sample_rate=16_000).eval()


def _let_learn(settings: Pretraining, upstream: HFUpstream) -> None:
    if settings.mode == "lora":
        add_lora(upstream, rank=settings.lora_rank, alpha=2 * settings.lora_rank, dropout=0.0)
        return
    train_front_end = settings.size is not None if settings.train_front_end is None else settings.train_front_end
    finetune(upstream, train_front_end=train_front_end)


def _objective(settings: Pretraining, upstream: HFUpstream) -> Objective:
    if settings.objective == "contrastive":
        return Contrastive(upstream)
    if settings.objective == "workers":
        return Workers(upstream, settings.num_units, Surroundings.size)
    return MaskedUnits(upstream, settings.num_units)


Target = TypeVar("Target", Units, Surroundings)


def _fitted(target: Target, path: Path, settings: Pretraining, speech: Speech, display: Display) -> Target:
    """Fitted once, to utterances that the seed draws; written to and read from PATH."""
    if path.is_file():
        load_units(target, path)
        return target
    order = sorted(speech.utterances, key=lambda item: draw(settings.seed, "units", item.id))
    rate = target.source.sample_rate if isinstance(target, KMeansUnits) else 16_000
    waves = ((_cropped(item, settings, 0, rate), rate) for item in order)
    with display.bar("units, frames") as advance:
        target.fit(waves, settings.seed, lambda done: advance(done, 0, ""))
    save_units(target, path)
    return target


def _cropped(item: Utterance, settings: Pretraining, step: int, sample_rate: int) -> Tensor:
    """(N,) samples of at most `crop` seconds, from a place that (seed, step, utterance) decides."""
    start, end = _crop(item, settings, step)
    return read_audio(item.path, sample_rate, start, end)


def _crop(item: Utterance, settings: Pretraining, step: int) -> tuple[float | None, float | None]:
    if item.duration <= settings.crop:
        return item.start, item.end
    begin = (item.start or 0.0) + (item.duration - settings.crop) * draw(settings.seed, "crop", step, item.id) / 2**63
    return begin, begin + settings.crop


class PretrainingLoop:
    """Updates, records and checkpoints.

    Args:
        settings: of the pretraining.
        objective: the upstream and its loss.
        wanted: the targets of `MaskedUnits` and what `Workers` regresses beside them, where the objective has them.
        utterances: what is trained on.
        folder: of the checkpoints.
        accelerator: devices and processes.
    """

    def __init__(
        self,
        settings: Pretraining,
        objective: Objective,
        wanted: tuple[Units | None, Surroundings | None],
        utterances: Sequence[Utterance],
        folder: Path,
        accelerator: Accelerator,
    ) -> None:
        self.settings, self.utterances, self.folder = settings, utterances, folder
        self.units, self.surroundings = wanted
        self.accelerator, self.upstream = accelerator, objective.upstream
        rate = self.upstream.sample_rate
        self.augmenter = Augmenter(settings.augment, settings.seed, rate, WaveSource(rate))
        self.held: dict[str, tuple[Tensor, ...]] = {}  # samples and targets that are the same in every pass
        self.room = psutil.virtual_memory().available // 4  # bytes of them
        weights = [weight for weight in objective.to(accelerator.device).parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(
            weights, settings.learning_rate, betas=(0.9, 0.98), weight_decay=settings.weight_decay
        )
        self.objective, self.optimizer = accelerator.prepare(objective, optimizer)
        self.module: Objective = accelerator.unwrap_model(self.objective)

    def run(self, follow: Any) -> Progress:
        """Train to the last update; resumes from the newest checkpoint."""
        optimizer = self.optimizer.optimizer
        progress = load_checkpoint(self.folder / "checkpoints", self.module, optimizer)
        ids, durations = [item.id for item in self.utterances], [item.duration for item in self.utterances]
        sums: dict[str, Any] = {}
        with interruptible() as interrupt:
            while progress.step < self.settings.max_steps:
                batches = epoch_batches(
                    ids, durations, self.settings.batch_size, self.settings.seed, progress.epoch, JITTER
                )
                for batch in batches[progress.position :]:
                    self._add(sums, *self._update([self.utterances[index] for index in batch], progress.step))
                    progress.step, progress.position = progress.step + 1, progress.position + 1
                    follow(progress.step, f"loss {progress.losses[-1]:.3f}" if progress.losses else "")
                    last = progress.step == self.settings.max_steps
                    if progress.position == len(batches):
                        progress.epoch, progress.position = progress.epoch + 1, 0
                    if last or progress.step % self.settings.log_every == 0:
                        self._record(progress, sums)
                        sums = {}
                    if interrupt.asked:
                        raise KeyboardInterrupt
                    if last:
                        break
        return progress

    def _update(self, batch: list[Utterance], step: int) -> tuple[Losses, Tensor, Tensor]:
        """One update on a global batch; its losses, the masked frames and the units' counts, over all processes."""
        accelerator, settings = self.accelerator, self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * rate_factor(settings, step)
        own = batch[accelerator.process_index :: accelerator.num_processes] or batch[:1]
        counts = (
            1.0 if len(batch) > accelerator.process_index else 0.0
        )  # a process without utterances counts for nothing
        waves, targets = self.batch(own, step)
        self.objective.train()
        seed_everything(settings.seed, "step", step)
        with safe_convolutions(accelerator.device, settings.mixed_precision), UtteranceDropout(utterance_keys(own)):
            losses: Losses = self.objective(waves.to(accelerator.device), targets)
        masked = accelerator.reduce(targets.mask.sum() * counts, "sum")
        loss = counts * losses.total / masked.clamp(min=1)
        self.optimizer.zero_grad()
        accelerator.backward(loss * accelerator.num_processes)  # DDP averages the gradients; we want their sum
        norm = accelerator.clip_grad_norm_(self.objective.parameters(), settings.clip_norm)
        if torch.isfinite(norm) or settings.mixed_precision == "fp16":
            self.optimizer.step()
        wanted = torch.bincount(targets.units[targets.mask].cpu(), minlength=settings.num_units).float()
        shared = [
            accelerator.reduce(value.detach().float().to(accelerator.device) * counts, "sum").cpu()
            for value in (losses.total, losses.correct, losses.predicted, wanted)
        ]
        return Losses(*shared[:3]), masked.cpu(), shared[3]

    def batch(self, utterances: Sequence[Utterance], step: int) -> tuple[WaveBatch, Targets]:
        """The audio and the targets of some utterances at an update."""
        settings = self.settings
        waves, units, surroundings = zip(*(self._clip(item, step) for item in utterances), strict=True)
        batch = WaveBatch.collate(list(waves), self.upstream.sample_rate)
        frames = self.upstream.frame_lengths(batch.lengths).tolist()
        size = int(self.upstream.frame_lengths(torch.tensor([max(batch.samples.shape[1], 1)])))
        masks = [
            span_mask(count, settings.mask, settings.mask_length, settings.seed, "mask", step, item.id)
            for count, item in zip(frames, utterances, strict=True)
        ]
        distractors = settings.num_negatives if settings.objective == "contrastive" else 0
        drawn = [
            negatives(mask, distractors, settings.seed, "negatives", step, item.id)
            for mask, item in zip(masks, utterances, strict=True)
        ]
        return batch, Targets(pad(masks, size), pad(units, size), pad(drawn, size), pad(surroundings, size))

    def _clip(self, item: Utterance, step: int) -> tuple[Tensor, ...]:
        """(N,) samples of an utterance at an update, the units of its (T,) frames, and (T, C) of what is regressed."""
        if item.id in self.held:
            return self.held[item.id]
        start, end = _crop(item, self.settings, step)
        wave = self.augmenter.wave(replace(item, start=start, end=end), step)
        count = int(self.upstream.frame_lengths(torch.tensor([len(wave)])))
        units, surroundings = torch.zeros(count, dtype=torch.int64), torch.zeros(count, 0)
        if self.units is not None:
            units = self.units(wave, self.upstream.sample_rate, count)
        if self.surroundings is not None:
            surroundings = self.surroundings(wave, count)
        found = wave, units, surroundings
        same = item.duration <= self.settings.crop and not self.settings.augment.on_waves
        if same and (needed := sum(part.nbytes for part in found)) <= self.room:
            self.room -= needed
            self.held[item.id] = found
        return found

    @staticmethod
    def _add(sums: dict[str, Any], losses: Losses, masked: Tensor, wanted: Tensor) -> None:
        values = {"loss": losses.total, "correct": losses.correct, "predicted": losses.predicted}
        for name, value in (values | {"masked": masked, "wanted": wanted}).items():
            sums[name] = sums.get(name, 0) + value

    def _record(self, progress: Progress, sums: dict[str, Any]) -> None:
        """A line of the history and a checkpoint."""
        count = max(float(sums["masked"]), 1.0)
        progress.losses = [float(sums["loss"]) / count]
        progress.history.append(
            {
                "step": progress.step,
                "lr": self.settings.learning_rate * rate_factor(self.settings, progress.step - 1),
                "loss": progress.losses[0],
                "accuracy": float(sums["correct"]) / count,
                "predicted_perplexity": perplexity(sums["predicted"]),
                "target_perplexity": perplexity(sums["wanted"]) if self.units is not None else None,
            }
        )
        if progress.history[-1]["predicted_perplexity"] < COLLAPSED and progress.step > self.settings.warmup_steps:
            logger.warning(
                "Update %d: fewer than %d of the units are predicted, the same for nearly every frame. The "
                "training may have collapsed; try a lower learning_rate.", progress.step, COLLAPSED,
            )  # fmt: skip
        if self.accelerator.is_main_process:
            save_checkpoint(self.folder / "checkpoints", self.module, self.optimizer.optimizer, progress)
        self.accelerator.wait_for_everyone()


def rate_factor(settings: Pretraining, step: int) -> float:
    """The fraction of the peak rate of an update: a linear rise, then a linear fall to 0."""
    rise = settings.warmup_steps
    if step < rise:
        return (step + 1) / rise
    return max(settings.max_steps - step, 1) / max(settings.max_steps - rise, 1)


def perplexity(counts: Tensor) -> float:
    """As many classes in even use would have the entropy of these (K,) counts."""
    shares = counts.double() / counts.sum().clamp(min=1)
    return float(torch.special.entr(shares).sum().exp())


def save_upstream(upstream: HFUpstream, folder: Path) -> None:
    """Write config.json, weights and preprocessor_config.json, which transformers and `load_upstream` read."""
    model: Any = upstream.model
    model.config.undertone_random_weights = False
    with quiet_transformers():
        model.save_pretrained(folder)
    if isinstance(upstream, FamilyUpstream):
        extractor: Any = family_extractor(model.config, upstream.do_normalize, upstream.sample_rate)
    else:
        extractor = upstream.extractor
    extractor.save_pretrained(folder)
