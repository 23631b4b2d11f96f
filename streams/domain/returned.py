"""Why a message goes back to the tail of its queue."""

from enum import StrEnum


class ReturnReason(StrEnum):
    """Why a message goes back to the tail of its xfer queue; the names are part of what people see."""

    NO_ENVELOPE = "no_envelope"
    INVALID_ENVELOPE = "invalid_envelope"
    NO_SAVED_INFO = "no_saved_info"
    INVALID_SAVED_INFO = "invalid_saved_info"
    UNRESOLVABLE_QUEUE = "unresolvable_queue"
    DESTINATION_UNAVAILABLE = "destination_unavailable"
    TIMESTAMP = "timestamp"
    TOO_LARGE = "too_large"
    BATCH_TOO_LARGE = "batch_too_large"


class NotRestorable(Exception):
    """The message stays where it is; `code` is for counting, `detail` a short sentence for people."""

    def __init__(self, code: ReturnReason, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class InvalidEnvelope(NotRestorable):
    """The envelope is not one; its code is always `invalid_envelope`."""

    def __init__(self, detail: str) -> None:
        super().__init__(ReturnReason.INVALID_ENVELOPE, detail)
