"""Entry point of ``python -m device.web``."""

from device.web.command import main

if __name__ == "__main__":
    main()
