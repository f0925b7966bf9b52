"""Entry point of ``python -m cloud.training.looks``."""

from cloud.training.entry import run


def main() -> None:
    """Run the command; a user's mistake is one line and its exit status."""
    run("cloud.training.split.look_table")


if __name__ == "__main__":
    main()
