"""Turn off gRPC's own log lines; programs import this before gRPC, which reads the variable then.

gRPC writes several lines for each failed TLS handshake. A device reports the failure in one line
itself, and strangers could fill a server's log. A value that the user has set stays.
"""

import os

os.environ.setdefault("GRPC_VERBOSITY", "NONE")
