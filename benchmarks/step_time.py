"""The time of one update in each mode compared with bare transformers: paired runs, medians, peak memory.

python benchmarks/step_time.py CORPUS --root DIR --upstream FOLDER --out results.json

The same clips go in turn through Undertone's update (reading, forward, loss, backward, clipping, optimiser) and through
forward and backward of the bare transformers (or PEFT) model with the same trainable weights. An update in frozen mode,
which reads the store, is compared with the bare forward, which it saves. A part of the corpus is used, evenly over its
speakers. Each mode runs in a separate process, to measure its peak memory.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from own_process import measured_apart, peak_bytes

MODES = {
    "frozen": ["mode=frozen"],
    "finetune": ["mode=finetune"],
    "finetune, front-end too": ["mode=finetune", "train_front_end=true"],
    "lora": ["mode=lora"],
}


def measure(arguments: argparse.Namespace, mode: str) -> dict[str, Any]:
    """Median seconds of our update and of bare forward + backward, their ratio pair by pair, peak memory in bytes."""
    import torch

    from undertone.common.console import Display
    from undertone.experiments.open_run import open_run
    from undertone.training.accelerator import accelerator_of
    from undertone.training.settings import make_config
    from undertone.training.sources import WaveSource
    from undertone.training.trainer import Trainer

    torch.set_num_threads(arguments.threads)
    words = [*MODES[mode], f"batch_size={arguments.batch_size}", f"store={arguments.part}-store"]
    config = make_config({"corpus": arguments.part, "upstream": arguments.upstream}, words)
    with tempfile.TemporaryDirectory() as folder:
        run = open_run(config, Path(folder) / "run", Display(quiet=True))
        module = run.new_module("benchmark")
        trainer = Trainer(config, run.tasks, run.source, module, Path(folder), accelerator_of(config))
        clips = list(run.manifest)[: arguments.batch_size]
        trainer.objective = trainer._make_objective(clips)
        trainer._update(clips, 0, 1000)
        peak = peak_bytes()  # before the bare model is there
        bare, batch = bare_model(arguments.upstream, mode), WaveSource(run.upstream.sample_rate)(clips)
        work = partial(forward if mode == "frozen" else both_ways, bare, batch)
        pairs = []
        for step in range(arguments.warmup + arguments.pairs):
            pairs.append((timed(partial(trainer._update, clips, step, 1000)), timed(work)))
    pairs = pairs[arguments.warmup :]
    return {
        "mode": mode,
        "ours_s": median([ours for ours, _ in pairs]),
        "bare_s": median([bare for _, bare in pairs]),
        "ratio": median([ours / bare for ours, bare in pairs]),
        "peak_bytes": peak,
    }


def bare_model(folder: str, mode: str) -> Any:
    """The transformers (or PEFT) model in which the same weights learn."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, layerdrop=0.0, apply_spec_augment=False).train()
    if mode in ("finetune", "frozen"):
        model.freeze_feature_encoder()
    if mode == "lora":
        model.freeze_feature_encoder()
        model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"]))
    return model


def forward(model: Any, batch: Any) -> Any:
    """Forward of the bare model without autograd."""
    import torch

    with torch.inference_mode():
        return last_states(model.eval(), batch)


def both_ways(model: Any, batch: Any) -> None:
    """Forward and backward of the bare model: no layer sum, no head, no optimiser."""
    model.zero_grad()
    last_states(model, batch).square().mean().backward()


def last_states(model: Any, batch: Any) -> Any:
    """(B, T, D) of the bare model, padding masked."""
    from undertone.upstream.types import length_mask

    mask = length_mask(batch.lengths, batch.samples.shape[1]).long()
    return model(batch.samples, attention_mask=mask).last_hidden_state


def save_part(corpus: str, root: Path | None, clips: int, folder: Path) -> None:
    """A prepared manifest of some clips, evenly over the corpus."""
    from undertone.corpora import load_corpus
    from undertone.corpora.manifest import Manifest
    from undertone.corpora.prepare import prepare

    manifest = prepare(load_corpus(corpus), root).manifest
    rows = [asdict(manifest[place * len(manifest) // clips]) for place in range(clips)]
    Manifest.from_rows(corpus, rows).save(folder)


def timed(work: Any) -> float:
    """Seconds that a piece of work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def median(values: list[float]) -> float:
    """The middle value."""
    return sorted(values)[len(values) // 2]


def main() -> None:
    """Measure every mode in a process of its own; print a table and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--root", type=Path)
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clips", type=int, default=64, help="of the corpus, evenly over its speakers")
    parser.add_argument("--mode", choices=MODES, help=argparse.SUPPRESS)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.mode:
        print(json.dumps(measure(arguments, arguments.mode)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "part"
        save_part(arguments.corpus, arguments.root, arguments.clips, part)
        for mode in MODES:
            rows.append(measured_apart([*sys.argv[1:], "--mode", mode, "--part", str(part)]))
            row = rows[-1]
            print(f"{mode:24} ours {row['ours_s']:.3f} s  bare {row['bare_s']:.3f} s  ratio {row['ratio']:.3f}"
                  f"  peak {row['peak_bytes'] / 2**30:.2f} GiB", flush=True)  # fmt: skip
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
