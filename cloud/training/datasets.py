"""Entry point of ``python -m cloud.training.datasets``."""

from cloud.training.data.command import main

if __name__ == "__main__":
    main()
