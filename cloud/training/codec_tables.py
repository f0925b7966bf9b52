"""Entry point of ``python -m cloud.training.codec_tables``."""

from cloud.training.split.codec_tables import main

if __name__ == "__main__":
    main()
