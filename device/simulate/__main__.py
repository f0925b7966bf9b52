"""Entry point of ``python -m device.simulate``."""

from device.simulate.command import main

if __name__ == "__main__":
    main()
