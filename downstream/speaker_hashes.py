"""What a published model says of its training speakers instead of their names; publishing imports no PyTorch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def hash_speakers(names: Sequence[str], salt: str) -> list[str]:
    """What a published model says of its training speakers instead of their names: 16 hex digits for each.

    With the corpus one can tell whether its speakers are among them; no name can be read. The salt, the hash of
    the manifest, is public, so a *guessed* name can be confirmed: scrypt (Percival 2009) makes each guess cost about a
    twentieth of a second. Speakers whose names are a secret should have labels that tell nothing (`s01`).
    """
    return [hashlib.scrypt(name.encode(), salt=salt.encode(), n=2**14, r=8, p=1, dklen=8).hex() for name in names]
