from hypothesis import HealthCheck, settings

# Machines differ in speed, and no test is about that.
settings.register_profile("xferq", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("xferq")
