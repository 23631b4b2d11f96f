import subprocess
import sys


def test_the_collector_looks_seldom_and_buffers_stay_in_the_heap() -> None:
    # A process of its own: what is set is set for good.
    code = """
import gc
from streams.worker.memory import tune_memory
tune_memory()
assert gc.get_freeze_count() > 0
assert gc.get_threshold()[0] >= 50_000
"""
    subprocess.run([sys.executable, "-c", code], check=True)
