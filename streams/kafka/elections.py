"""Whether Kafka may elect a leader that lacks what was acknowledged: no barrier holds then: see `ledger.barrier`."""

import logging

from streams.errors import Misconfigured, Refused
from streams.kafka.acls import KAFKAS_OWN
from streams.kafka.connection import Connection
from streams.kafka.topics import Topics

_log = logging.getLogger(__name__)
_SETTING = "unclean.leader.election.enable"


async def require_clean_elections(connection: Connection) -> None:
    """See that no unclean leader is elected in Kafka's own topics of transactions and offsets.

    Of xferq's own, `streams.kafka.layout` sees to that. Topics that are not there yet, and those whose settings Kafka
    does not let us look at, are passed over.

    Raises:
        Misconfigured: one may get an unclean leader.
        Unavailable: Kafka does not answer.
    """
    topics = Topics(connection)
    for name in KAFKAS_OWN:
        try:
            found = (await topics.configs([name])).get(name, {}).get(_SETTING, "false")
        except Refused as error:
            _log.info("elections.unchecked topic=%s error=%s", name, error)
            continue
        if found != "false":
            raise Misconfigured(
                f"topic {name}: {_SETTING} is {found}: a broker without what was acknowledged may become its leader, "
                f"and messages would be lost or moved twice. Set it to false, for this topic or for all: "
                f"`kafka-configs.sh --alter --entity-type topics --entity-name {name} --add-config {_SETTING}=false`"
            )
