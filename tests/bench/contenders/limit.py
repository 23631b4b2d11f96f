"""The limits: the same messages in the same transactions, ready before the clock runs."""

from tests.bench.contenders.python_loops import PythonLoop


class Limit(PythonLoop):
    """The batches of a drain, byte for byte and for the same partitions, while the source is read undecoded."""

    name = "limit"
    remark = "the same batches, built beforehand"
    module = "tests.bench.contenders.limit_loop"


class BareLimit(PythonLoop):
    """The same records in as few batches as can be: what Kafka and the network take for so many bytes."""

    name = "bare-limit"
    remark = "as few batches as can be, built beforehand"
    module = "tests.bench.contenders.limit_loop"
    arguments = ("few",)
