"""Entry point of ``python -m device.fleet``."""

import shared.quiet_grpc  # noqa: F401  # isort: split
from device.fleet.command import main

if __name__ == "__main__":
    main()
