"""The compiled drain does with hostile input what Python does; `make fuzz` tries for longer."""

import random

from hypothesis import given
from hypothesis import strategies as st

from streams.domain.claim import Claim
from tests.engine.profile import PROPERTY
from tests.native.compared import CLAIMS, OPTIONS, require_same_moves, require_same_reading
from tests.native.extension import needs_native
from tests.native.hostile import Hostile

pytestmark = needs_native
chances = st.randoms(use_true_random=False)


@given(chance=chances, claim=st.sampled_from(CLAIMS), options=st.sampled_from(OPTIONS), count=st.integers(1, 12))
@PROPERTY
def test_envelopes_give_the_same_bytes(
    chance: random.Random, claim: Claim, options: dict[str, tuple[str, ...]], count: int
) -> None:
    hostile = Hostile(chance)
    require_same_moves([hostile.record(offset) for offset in range(count)], claim, options)


@given(chance=chances, start=st.integers(0, 4))
@PROPERTY
def test_fetches_are_read_alike(chance: random.Random, start: int) -> None:
    data, aborted = Hostile(chance).fetch()
    require_same_reading(data, aborted, start)


def test_the_cases_of_many_seeds() -> None:
    """As `make fuzz` has them, which finds what hypothesis' small choices don't."""
    moved = read = 0
    for seed in range(150):
        chance = random.Random(seed)
        hostile = Hostile(chance)
        records = [hostile.record(offset) for offset in range(20)]
        moved += require_same_moves(records, chance.choice(CLAIMS), chance.choice(OPTIONS))
        data, aborted = hostile.fetch()
        read += require_same_reading(data, aborted, chance.randrange(4))
    assert moved > 500
    assert read > 300
