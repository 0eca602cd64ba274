"""The size and the error of each dtype of the store: bytes per hour of audio, error of the layer sum.

python benchmarks/store_dtypes.py --upstream FOLDER --root EmoDB --clips 20 --out docs/results/store_dtypes.json

Hidden states of real upstreams have outlier features, about a hundred times larger than the others. Two features of
each layer are therefore scaled by 100 before storing, so that an upstream without outliers (random weights) shows their
effect. Errors are those of the plain mean of the layers relative to the mean of the float32 states: norm of the error
over norm of the sum, over the outliers, over all other features, and of the worst single feature.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from extraction import find_clips, machine

OUTLIERS, SCALE = (7, 300), 100.0


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Bytes and errors of every dtype."""
    import torch

    from undertone.audio.read import read_audio
    from undertone.upstream import WaveBatch, load_upstream
    from undertone.upstream.store.shard import DTYPES
    from undertone.upstream.store.store import Store

    torch.set_num_threads(arguments.threads)
    upstream = load_upstream(arguments.upstream).eval()
    outliers = [feature % upstream.hidden_size for feature in OUTLIERS]
    sounds, states = find_clips(arguments.root, arguments.clips), {}
    with torch.inference_mode():
        for sound in sounds:
            wave = read_audio(sound.path, upstream.sample_rate)
            states[sound.audio_hash] = upstream(WaveBatch.collate([wave], upstream.sample_rate)).states[0]
            states[sound.audio_hash][:, :, outliers] *= SCALE
    hours = sum(sound.duration for sound in sounds) / 3600
    rows = []
    for dtype in DTYPES:
        with tempfile.TemporaryDirectory() as folder:
            store = Store(Path(folder), upstream, dtype=dtype)
            store.add(states.items())
            num_bytes = sum(shard.stat().st_size for shard in store.folder.glob("*.safetensors"))
            wanted = torch.cat([entry.mean(0) for entry in states.values()])  # (frames, D)
            found = torch.cat([store.get(key).float().mean(0) for key in states])  # (frames, D)
        error = found - wanted
        each = error.norm(dim=0) / wanted.norm(dim=0)  # (D,)
        others = [feature for feature in range(upstream.hidden_size) if feature not in outliers]
        rows.append(
            {
                "dtype": dtype,
                "bytes_per_hour": num_bytes / hours,
                "max_error": float(error.abs().max()),
                "relative_error_outliers": float(error[:, outliers].norm() / wanted[:, outliers].norm()),
                "relative_error_others": float(error[:, others].norm() / wanted[:, others].norm()),
                "relative_error_worst_feature": float(each.max()),
            }
        )
    return {
        "upstream": Path(arguments.upstream).name,
        "sounds": len(sounds),
        "audio_s": hours * 3600,
        "outlier_features": outliers,
        "outlier_scale": SCALE,
        "dtypes": rows,
        "machine": machine(arguments.threads, "cpu"),
    }


def main() -> None:
    """Measure, print a table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--root", type=Path, action="append", required=True, help="folder of audio files; repeatable")
    parser.add_argument("--clips", type=int, default=20, help="number of files, evenly over the lengths")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    results = measure(arguments)
    for row in results["dtypes"]:
        print(
            f"{row['dtype']:9} {row['bytes_per_hour'] / 1e9:6.2f} GB an hour   largest error {row['max_error']:.2e}   "
            f"relative: outliers {row['relative_error_outliers']:.1e}, others {row['relative_error_others']:.1e}, "
            f"worst feature {row['relative_error_worst_feature']:.1e}"
        )
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
