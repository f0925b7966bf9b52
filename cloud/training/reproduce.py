"""Entry point of ``python -m cloud.training.reproduce``."""

from cloud.training.paper.reproduce import main

if __name__ == "__main__":
    main()
