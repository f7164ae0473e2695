"""The tests of real clients: `make test-clients` installs the clients, sets TOLLHOUSE_CLIENTS and runs them.

Without it nothing here is collected, so that `make test` needs no Node; with it a client that is missing is
a failure and never a skip.
"""

import os

collect_ignore_glob = [] if "TOLLHOUSE_CLIENTS" in os.environ else ["test_*.py"]
