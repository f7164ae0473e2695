"""What every test has in common: no test fails for being slow."""

from hypothesis import settings

# Hypothesis counts an example of more than 200 ms as a failure; a busy machine is none.
settings.register_profile("tollhouse", deadline=None)
settings.load_profile("tollhouse")
