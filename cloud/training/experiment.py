"""Entry point of ``python -m cloud.training.experiment``."""

from cloud.training.paper.experiment import main

if __name__ == "__main__":
    main()
