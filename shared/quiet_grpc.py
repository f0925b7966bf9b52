"""Imported by programs before anything else: gRPC writes no log lines of its own.

It would write several for each TLS handshake that fails: beside the one line of ours at a device,
and at a server as many as a stranger likes to cause. gRPC looks at its variable when it is first
imported; one that the user has set stays.
"""

import os

os.environ.setdefault("GRPC_VERBOSITY", "NONE")
