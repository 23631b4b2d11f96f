"""What a command may need of the worker that carries it out, beyond what every version can: by name.

A claim, or a control, names its needs; fields that a version does not know, it passes over. So a worker of an earlier
version leaves alone what it would do wrongly, and says so, until a worker that can has its share.
"""

from collections.abc import Collection, Iterable

ABILITIES: frozenset[str] = frozenset()
"""What this version can."""


def lacking(needs: Iterable[str], abilities: Collection[str] = ABILITIES) -> list[str]:
    """The needs that are none of the abilities, in the order of the alphabet."""
    return sorted({need for need in needs if need not in abilities})


def in_words(needs: Iterable[str]) -> str:
    """What to say of these needs where they are lacking."""
    return f"what it needs ({', '.join(needs)}), only a worker of a later version can do"
