from hypothesis import HealthCheck, settings

from tests.support.examples import examples

# Machines differ in speed, and no test is about that.
settings.register_profile(
    "xferq", max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("xferq")
