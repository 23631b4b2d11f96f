"""How long the random tests run: briefly, or with `--hypothesis-profile=thorough` for half an hour."""

from hypothesis import HealthCheck, settings

from tests.support.examples import examples

settings.register_profile("thorough", max_examples=3_000, stateful_step_count=60)

_THOROUGH = settings.get_current_profile_name() == "thorough"
PROPERTY = settings(
    deadline=None, max_examples=2_000 if _THOROUGH else examples(60), suppress_health_check=list(HealthCheck)
)
RANDOM = settings(
    deadline=None,
    max_examples=3_000 if _THOROUGH else examples(50),
    stateful_step_count=60 if _THOROUGH else 30,
    suppress_health_check=list(HealthCheck),
)
