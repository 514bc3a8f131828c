"""Before all tests."""

import os

# Scripts word their advice by it; those that tests start stand for a user's, also in `make test`.
os.environ.pop("MAKELEVEL", None)

# Two processes run tests side by side; each with the threads of all cores would slow the other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
