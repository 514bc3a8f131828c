"""Before all tests."""

import os

# Scripts word their advice by it; those that tests start stand for a user's, also in `make test`.
os.environ.pop("MAKELEVEL", None)
