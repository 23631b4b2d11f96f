"""Who moves an xfer queue's messages in the comparison: xferq, those it is compared with, and the limit."""

from collections.abc import Sequence

from tests.bench.contenders.contender import Contender
from tests.bench.contenders.java import java_contenders
from tests.bench.contenders.limit import BareLimit, Limit
from tests.bench.contenders.python_loops import AiokafkaLoop, ConfluentLoop
from tests.bench.contenders.shovel import Shovel
from tests.bench.contenders.worker import XferqWorker


def contenders(names: Sequence[str] = ()) -> list[Contender]:
    """Those with these names, or all.

    Raises:
        ValueError: there is none of a name.
    """
    every: list[Contender] = [
        XferqWorker(),
        AiokafkaLoop(),
        ConfluentLoop(),
        *java_contenders(),
        Shovel(),
        Limit(),
        BareLimit(),
    ]
    by_name = {contender.name: contender for contender in every}
    if unknown := set(names) - by_name.keys():
        raise ValueError(f"no contender is called {', '.join(sorted(unknown))}; there are {', '.join(by_name)}")
    return [by_name[name] for name in names] if names else every
