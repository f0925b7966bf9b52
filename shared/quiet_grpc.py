"""Disable gRPC's own log lines. Must be imported before gRPC, which reads the variable then.

gRPC writes several lines for each failed TLS handshake. Devices report such failures themselves in
one line, and on servers anybody could fill the log. A value that the user has set is kept.
"""

import os

os.environ.setdefault("GRPC_VERBOSITY", "NONE")
