"""SUPERB's emotion probe (Yang et al., Interspeech 2021, arXiv 2105.01051), as trained by s3prl.

Frozen upstream, layer sum without layer norm, Linear(D -> 256), mean over the frames, Linear(256 -> classes), Adam
without schedule, clip-norm 1, 32 utterances an update, 30,000 updates, dev every 1,000, checkpoint by accuracy. SUPERB
tries learning rates from 1e-1 to 1e-7 for every upstream; here the five around s3prl's 1e-4 are swept, and dev chooses
one for each fold. `lr=1e-4` trains at that one alone.

Two ways to draw dev, which the results tell apart. `superb` keeps speakers for dev whom train does not have: the
corpus' own protocol, for IEMOCAP the next session. `superb:split` is SUPERB's split, for scores beside published ones:
dev is a random fifth of the clips of the training sessions, so that train and dev share speakers. Ours in both: UAR
beside WA, and the rate chosen on dev.
"""

SYSTEM = {
    "upstream": "facebook/wav2vec2-base",
    "head": "linear",
    "tasks": ("emotion",),
    "sweep": {"learning_rate": (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)},
    "layer_sum_learning_rate": None,  # in one group with the head
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
VARIANTS = {"split": ("protocol=superb",)}
