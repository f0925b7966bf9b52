"""Entry point of ``python -m cloud.training.flagships``."""

from cloud.training.split.flagships import main

if __name__ == "__main__":
    main()
