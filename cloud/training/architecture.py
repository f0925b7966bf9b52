"""Entry point of ``python -m cloud.training.architecture``."""

from cloud.training.entry import run


def main() -> None:
    """Run the command; a user's mistake is one line and its exit status."""
    run("cloud.training.split.architecture_command")


if __name__ == "__main__":
    main()
