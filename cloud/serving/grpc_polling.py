"""How gRPC waits for its sockets; programs import this before gRPC, which reads the variable then.

gRPC's event engine passes what arrives from thread to thread until it is complete. Without it, the
thread that waits for what is complete reads the sockets itself, and a request takes about a sixth
less of a core. A value that the user has set stays.
"""

import os

os.environ.setdefault(
    "GRPC_EXPERIMENTS",
    "-event_engine_listener,-event_engine_client,-event_engine_callback_cq,"
    "-event_engine_for_all_other_endpoints",
)
