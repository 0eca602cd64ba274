"""Two examples for the help of every command; a test parses each of them."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, ...]] = {
    "quickstart": ("undertone quickstart", "undertone quickstart --out /tmp/first-run"),
    "prepare": ("undertone prepare calls.csv", "undertone prepare emodb --root EmoDB --strict"),
    "describe": ("undertone describe calls.csv", "undertone describe emodb --root EmoDB"),
    "check-split": (
        "undertone check-split train.csv test.csv",
        "undertone check-split runs/train-manifest runs/test-manifest",
        "undertone check-split EmoBox/data/emodb --corpus emodb --root EmoDB",
    ),
    "extract": (
        "undertone extract calls.csv --upstream microsoft/wavlm-base-plus",
        "undertone extract emodb --root EmoDB --upstream facebook/hubert-base-ls960 --kind mean",
    ),
    "pretrain": (
        "undertone pretrain recordings/ --upstream facebook/wav2vec2-base --objective contrastive --out runs/mine",
        "undertone pretrain recordings/ emodb --root +EmoDB --fold 03 --size tiny --steps 20000 augment.speed=0.1",
    ),
    "crossval": (
        "undertone crossval emodb --root EmoDB --upstream microsoft/wavlm-base-plus --out runs/emodb",
        "undertone crossval calls.csv --system contours --tasks emotion,gender --out runs/calls",
    ),
    "train": (
        "undertone train calls.csv --upstream microsoft/wavlm-base-plus --mode lora --out runs/calls-lora",
        "undertone train emodb --root EmoDB --fold 03 --log-with tensorboard",
    ),
    "crosscorpus": (
        "undertone crosscorpus emodb ravdess nemo --root EmoDB+RAVDESS+nEMO --system functionals",
        "undertone crosscorpus calls.csv meetings.csv --out runs/matrix corpus.labels=angry,neutral",
    ),
    "ablate": (
        "undertone ablate li2019:small emodb --root EmoDB",
        "undertone ablate crnn:small calls.csv --out runs/ablation epochs=20",
    ),
    "rerun": ("undertone rerun runs/calls", "undertone rerun runs/calls --out runs/calls-again"),
    "predict": (
        "undertone predict runs/calls call.wav recordings/",
        "undertone predict user/name 'calls/**/*.m4a' --out predictions.csv",
        "find . -name '*.wav' | undertone predict runs/calls - --format jsonl",
    ),
    "listen": (
        "undertone listen runs/calls",
        "arecord -t raw -f S16_LE -r 16000 | undertone listen runs/calls - --json",
    ),
    "evaluate": (
        "undertone evaluate runs/calls other.csv --map joy=happy",
        "undertone evaluate user/name emodb --root EmoDB --out runs/name-on-emodb",
    ),
    "push": (
        "undertone push runs/calls user/calls-emotion --dry-run",
        "undertone push runs/calls user/calls-emotion --public",
    ),
    "export": (
        "undertone export runs/calls --to onnx --out calls-onnx",
        "undertone export runs/calls --to transformers --out calls-transformers --task emotion",
    ),
    "report": ("undertone report runs/calls", "undertone report runs/calls-on-emodb"),
    "compare": (
        "undertone compare runs/baseline runs/calls",
        "undertone compare runs/a runs/b runs/c --out comparison",
    ),
    "explain": (
        "undertone explain runs/calls call.wav",
        "undertone explain runs/calls call.wav --task emotion --target angry --out pages/call",
    ),
    "demo": ("undertone demo runs/calls", "undertone demo user/name --port 8000"),
    "robustness": (
        "undertone robustness runs/calls",
        "undertone robustness runs/calls --only noise,codec --noise street.wav --snr 20,10,0",
    ),
    "bench": (
        "undertone bench --upstream microsoft/wavlm-base-plus",
        "undertone bench emodb --root EmoDB --upstream microsoft/wavlm-base-plus max_epochs=20 --json bench.json",
    ),
    "list": ("undertone list corpora", "undertone list settings learning_rate"),
    "new": ("undertone new head my_head", "undertone new corpus my_corpus --out src"),
    "store": ("undertone store list", "undertone store prune --days 90"),
    "store list": ("undertone store list", "undertone store list --store /data/store"),
    "store verify": ("undertone store verify", "undertone store verify --store /data/store"),
    "store prune": ("undertone store prune", "undertone store prune --days 90 --store /data/store"),
}


def epilog(command: str) -> str:
    """What stands under a command's help."""
    return "\n\n".join(["Examples:", *EXAMPLES[command]])
