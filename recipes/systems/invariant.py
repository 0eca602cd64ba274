"""Emotion from an embedding that should not tell who speaks or which corpus it is: gradient reversal against both.

Dense layers on our functionals; two adversaries read the embedding, one for the speaker, one for the corpus, and what
helps them is trained away (Ganin et al. 2016, arXiv 1505.07818). It needs several corpora: made for

    undertone ablate invariant emodb+ravdess+nemo --root EmoDB+RAVDESS+nEMO protocol=corpus

which trains on all corpora but one. The adversaries' own accuracy proves nothing, so a new linear probe is fitted to
the embeddings after training; the table under the scores says how much of speaker and corpus it still finds. The row
`plain` trains the same network with the reversed gradient multiplied by 0, for the probe's sake. The idea is Ganin's,
sizes and settings are ours.
"""

from undertone.recipes.systems import Row

SYSTEM = {
    "upstream": "functionals",
    "head": "dense",
    "tasks": ("emotion",),
    "adversarial": ("speaker", "corpus"),
    "class_weights": "balanced",
    "sampling": "balanced",
    "learning_rate": 1e-3,
    "batch_size": 128,
    "max_epochs": 40,
    "patience": 10,
}

ABLATION = (
    Row("speaker-corpus"),
    Row("speaker", ("adversarial=speaker",)),
    Row("corpus", ("adversarial=corpus",)),
    Row("plain", ("adversarial_weight=0",)),
)
