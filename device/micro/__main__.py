"""Entry point of ``python -m device.micro``."""

from device.micro.command import main

if __name__ == "__main__":
    main()
