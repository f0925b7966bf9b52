"""Entry point of ``python -m cloud.training.study``."""

from cloud.training.split.study import main

if __name__ == "__main__":
    main()
