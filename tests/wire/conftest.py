"""Property tests here go by the same profile as those of the domain, whichever of them are run."""

from hypothesis import settings

import tests.domain.conftest  # noqa: F401 - registers it

settings.load_profile("xferq")
