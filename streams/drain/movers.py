"""Which mover a drain has."""

from streams.domain.claim import Claim
from streams.drain.mover import Mover, RecordMover
from streams.drain.native_mover import NativeMover
from streams.drain.strategy import STRATEGIES
from streams.native.extension import native_of
from streams.settings.settings import Settings


def mover_of(claim: Claim, settings: Settings) -> Mover:
    """The compiled one where it is here and wanted, or else Python's."""
    native = native_of(settings)
    node_id, log_meta, log_headers = str(settings.node_id), settings.log_meta, settings.log_headers
    if native is not None and NativeMover.can_move(claim):
        return NativeMover(native, claim, node_id=node_id, log_meta=log_meta, log_headers=log_headers)
    return RecordMover(STRATEGIES[claim.kind](claim, node_id=node_id, log_meta=log_meta, log_headers=log_headers))
