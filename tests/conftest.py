"""Settings of all tests."""

from hypothesis import HealthCheck, settings

# A busy machine makes an example slow, not wrong: times decide nothing here.
settings.register_profile(
    "meshlb", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("meshlb")
