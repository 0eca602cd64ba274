"""SUPERB's emotion probe (Yang et al., Interspeech 2021, arXiv 2105.01051), as trained by s3prl.

Frozen upstream, layer sum without layer norm, Linear(D -> 256), mean over the frames, Linear(256 -> classes), Adam at
1e-4 without schedule, clip-norm 1, 32 utterances an update, 30,000 updates, dev every 1,000, checkpoint by accuracy.

Ours: dev speakers are their own (SUPERB draws dev from the training sessions' clips), and UAR is reported beside WA.
The published scores are the best of several learning rates: give lr=... to try others.
"""

SYSTEM = {
    "upstream": "facebook/wav2vec2-base",
    "head": "linear",
    "tasks": ("emotion",),
    "learning_rate": 1e-4,
    "weight_decay": 0.0,
    "warmup": 0.0,
    "schedule": "constant",
    "clip_norm": 1.0,
    "batch_size": 32,
    "max_steps": 30_000,
    "eval_every": 1_000,
    "patience": 30,
    "select_by": "wa",
}
