"""The features of the Interspeech Computational Paralinguistics Challenges (Schuller et al., Interspeech 2016)."""

from __future__ import annotations

from undertone.upstream.acoustic._opensmile import OpenSmile


class Compare2016(OpenSmile):
    """openSMILE's ComParE 2016: 6,373 functionals, of magnitudes up to 1e13; needs the extra `opensmile`."""

    hidden_size = 6373
    feature_set = "ComParE_2016"
