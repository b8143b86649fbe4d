"""How hard Hypothesis looks: HYPOTHESIS_PROFILE=dev, ci or deep; on a build machine ci."""

from __future__ import annotations

import os
import signal

from hypothesis import Phase, settings

pytest_plugins = ["tests.schedule"]

# No deadline for a single example: it would measure the machine, not the code.
settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile("ci", max_examples=150, deadline=None)
settings.register_profile("deep", max_examples=5000, deadline=None)
# For tests.mutants, where failing is the aim: no shrinking, and nothing is remembered.
settings.register_profile("mutants", max_examples=100, deadline=None, database=None, phases=[Phase.generate])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))

# A shell's background job begins with Ctrl-C ignored, and so do its children; some tests press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
