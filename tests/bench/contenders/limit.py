"""The limit: the same bytes in the same transactions, ready before the clock runs."""

from tests.bench.contenders.python_loops import PythonLoop


class Limit(PythonLoop):
    """Large batches that are ready are written while the source is read undecoded; what is left to it is xferq's."""

    name = "limit"
    remark = "batches built beforehand"
    module = "tests.bench.contenders.limit_loop"
