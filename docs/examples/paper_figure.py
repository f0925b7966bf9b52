"""A figure of the paper: accuracy of an MLP against the fraction of its channels that is computed.

    python -m cloud.training.datasets fetch mnist
    python docs/examples/paper_figure.py --output figure.svg

The standard network loses its answers as soon as channels are cut off; trained with incomplete dot
products and a linear profile it keeps them. Source: figure 5 of arXiv 1710.07830.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from matplotlib.figure import Figure

from cloud.training.paper.recipes import recipe
from cloud.training.paper.runs import Experiment, Places, run_experiment

LINES = (("standard", "all-one", "standard"), ("idp", "linear", "incomplete dot products"))


def main() -> None:
    """Train both networks, as far as they are not yet, and draw."""
    parser = argparse.ArgumentParser(description="Accuracy against the fraction of channels.")
    parser.add_argument("--data", default="mnist", help="mnist, or a folder of IDX files")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--checkpoints", type=Path, default=Path("checkpoints"))
    parser.add_argument("--epochs", type=int, default=recipe("mlp").epochs)
    parser.add_argument("--batch", type=int, default=recipe("mlp").batch)
    parser.add_argument("--output", type=Path, default=Path("figure.svg"))
    given = parser.parse_args()
    chosen = replace(recipe("mlp"), data=given.data, epochs=given.epochs, batch=given.batch)
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for regime, profile, label in LINES:
        experiment = Experiment("mlp", regime, chosen, profile)
        curve = run_experiment(experiment, Places(given.data_dir, given.checkpoints, resume=True))
        evaluation = curve.evaluations[0]
        x = [100 * point.fraction for point in curve.points]
        y = [100 * point.accuracy[evaluation] for point in curve.points]
        axes.plot(x, y, "o-", label=label)
        print(f"{label}: " + ", ".join(f"{f:.0f} %: {a:.1f}" for f, a in zip(x, y, strict=True)))
    axes.set_xlabel("channels, %")
    axes.set_ylabel("right answers, %")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(given.output)


if __name__ == "__main__":
    main()
