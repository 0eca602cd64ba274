"""The extended Geneva Minimalistic Acoustic Parameter Set (Eyben et al., IEEE TAFFC 7(2), 2016)."""

from __future__ import annotations

from undertone.upstream.acoustic._opensmile import OpenSmile


class Egemaps(OpenSmile):
    """openSMILE's eGeMAPSv02: 88 functionals chosen for the voice; needs the extra `opensmile`."""

    hidden_size = 88
    feature_set = "eGeMAPSv02"
