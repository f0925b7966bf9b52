"""An own profile: coefficients that order the channels of a layer, in a plain PyTorch loop.

    python docs/examples/own_profile.py

Trains a small network on the digits of the package with it and with two known profiles, and prints
how many of other digits each answers right with a fraction of its channels.
"""

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from shared.data.sample import sample_digits
from shared.networks import IncompleteNetwork, wrap
from shared.profiles import register

FRACTIONS, TRAINED = (0.25, 0.5, 0.75, 1.0), 150  # of the 200 digits


def square(count: int) -> np.ndarray:
    """1 for the first channel, then falling ever more slowly, never to 0."""
    return (1 - np.arange(count) / (count + 1)) ** 2


def network(profile: str) -> IncompleteNetwork:
    """A chain of plain layers, made incomplete."""
    torch.manual_seed(0)
    chain = nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.BatchNorm2d(32),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(32 * 16, 10),
    )
    return wrap(chain, profile, levels=FRACTIONS)


def train(net: IncompleteNetwork, x: torch.Tensor, y: torch.Tensor, epochs: int) -> None:
    """Every step trains the complete network and one random fraction (the sandwich rule)."""
    optimiser = torch.optim.Adam(net.parameters(), lr=0.005)
    net.train()
    for epoch in range(epochs):
        for chosen in torch.randperm(len(x)).split(50):
            fraction = FRACTIONS[epoch % (len(FRACTIONS) - 1)]
            loss = sum(F.cross_entropy(net(x[chosen], f), y[chosen]) for f in (1.0, fraction))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()


def main() -> None:
    """Compare the profiles."""
    parser = argparse.ArgumentParser(description="An own profile beside two known ones.")
    parser.add_argument("--epochs", type=int, default=30)
    epochs = parser.parse_args().epochs
    register("square", square)
    images, labels = sample_digits()
    x = torch.from_numpy(images).float()[:, None] / 127.5 - 1
    y = torch.from_numpy(labels).long()
    print("profile   " + "".join(f"{f:>8g}" for f in FRACTIONS))
    for profile in ("square", "linear", "all-one"):
        net = network(profile)
        train(net, x[:TRAINED], y[:TRAINED], epochs)
        net.eval()
        with torch.no_grad():
            right = [
                (net(x[TRAINED:], f).argmax(1) == y[TRAINED:]).float().mean() for f in FRACTIONS
            ]
        print(f"{profile:<10}" + "".join(f"{100 * share:>7.0f}%" for share in right))


if __name__ == "__main__":
    main()
