"""Entry point of ``python -m device.agent``."""

import shared.quiet_grpc  # noqa: F401  # isort: split
from device.agent.command import main

if __name__ == "__main__":
    main()
