"""Entry point of ``python -m cloud.training.train``."""

from cloud.training.split.train import main

if __name__ == "__main__":
    main()
