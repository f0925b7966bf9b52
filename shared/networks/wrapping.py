"""Make plain torch networks incomplete: a user's ``nn.Sequential``, and pretrained weights.

An incomplete layer multiplies its weights by coefficients g_i. Weights that were trained without
coefficients are therefore divided by them, so that the complete network computes the same as
before. To run at other fractions, the network has to be trained further.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from shared.fractions import channels
from shared.layers.conv import IncompleteConv2d
from shared.layers.linear import IncompleteLinear
from shared.layers.slimmable import SlimmableBatchNorm
from shared.networks.incomplete import IncompleteNetwork, Scheme, Width, single
from shared.profiles import Coefficients

COUNTED = nn.Conv2d | nn.Linear
NORMS = nn.BatchNorm1d | nn.BatchNorm2d
# Layers that work on each channel independently, so they take any number of channels.
FREE = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Sigmoid, nn.Tanh,
    nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d,
    nn.Dropout, nn.Dropout2d, nn.Identity, nn.Flatten, nn.Upsample,
)  # fmt: skip
IGNORED = "num_batches_tracked"


class Wrapped(IncompleteNetwork):
    """A chain of layers at any fraction, under their original names: "0", "1", ...

    As in the paper's networks, the first counted layer (convolution or linear layer) takes its
    whole input, and the last one computes all its outputs. ``forward(images, fraction)``: as the
    chain; images are not scaled.
    """

    def __init__(self, chain: nn.Sequential, scheme: Scheme) -> None:
        super().__init__(scheme)
        layers = list(_flat(chain))
        counted = [name for name, layer in layers if isinstance(layer, COUNTED)]
        if not counted:
            raise ValueError("chain: has no Conv2d and no Linear layer")
        self._names = [name for name, _ in layers]
        self._last = counted[-1]
        before = 0  # channels of the previous counted layer
        for name, layer in layers:
            _place(self, name, _incomplete(layer, scheme, before, first=name == counted[0]))
            if isinstance(layer, COUNTED):
                before = layer.weight.shape[0]
        if scheme.levels != (1.0,) and not self.norms():
            raise ValueError("scheme: levels are of batch norms, and the chain has none")
        load_pretrained(self, chain.state_dict())

    def run(self, images: Tensor, width: Width) -> Tensor:
        """Compute the chain's output with the leading channels."""
        x = images
        for name in self._names:
            layer = self.get_submodule(name)
            if isinstance(layer, COUNTED):
                m = layer.weight.shape[0]
                x = layer(x, m if name == self._last else channels(width.fraction, m))
            elif isinstance(layer, SlimmableBatchNorm):
                x = layer(x, width.level)
            else:
                x = layer(x)
        return x


def wrap(
    chain: nn.Sequential, profile: str = "linear", levels: tuple[float, ...] = (1.0,)
) -> Wrapped:
    """Return an incomplete network that computes the same as ``chain`` when it is complete.

    The layers may be Conv2d, Linear, BatchNorm1d, BatchNorm2d, activations, poolings, Dropout and
    Flatten, also in a nested Sequential. ``levels`` are the fractions with their own batch norm.
    ``TypeError`` or ``ValueError`` names an unsupported layer. ``chain`` is not modified.
    """
    return Wrapped(chain, single(profile, levels))


@torch.no_grad()
def load_pretrained(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load the weights of a plain network with the same layer names, such as torchvision's.

    ``state`` is a ``state_dict`` of Conv2d, Linear and batch norm layers. Each is loaded into the
    layer of ``network`` with the same name, plain or incomplete; for incomplete layers weights are
    divided by the coefficients. All levels of a batch norm get the same values. ``ValueError``
    names entries that are unknown, missing or of another shape.
    """
    left = {name for name in state if not name.endswith(IGNORED)}
    for name, layer in network.named_modules():
        if isinstance(layer, IncompleteConv2d | IncompleteLinear):
            taken = _load_counted(layer, name, state)
        elif isinstance(layer, SlimmableBatchNorm):
            taken = _load_norm(layer, name, state)
        elif isinstance(layer, nn.ParameterList):
            continue
        else:
            taken = _load_plain(layer, name, state)
        left -= taken
    if left:
        raise ValueError(f"state: {sorted(left)[0]} has no place in the network")


def _load_counted(
    layer: IncompleteConv2d | IncompleteLinear, name: str, state: Mapping[str, Tensor]
) -> set[str]:
    weight = _tensor(state, f"{name}.weight", layer.weight.shape)
    g = layer.coefficients
    if bool((g == 0).any()):
        raise ValueError(f"{name}: a coefficient of its profile is 0; weights cannot be divided")
    if isinstance(layer, IncompleteConv2d):
        # (N,) -> (groups, 1, N / groups, 1, 1), then a row for each output of a group
        rows = g.view(layer.groups, 1, -1).expand(-1, layer.out_channels // layer.groups, -1)
        g = rows.reshape(layer.out_channels, -1, 1, 1)
    layer.weight.copy_(weight / g.to(weight))
    taken = {f"{name}.weight"}
    if layer.bias is not None:
        layer.bias.copy_(_tensor(state, f"{name}.bias", layer.bias.shape))
        taken.add(f"{name}.bias")
    return taken


def _load_norm(layer: SlimmableBatchNorm, name: str, state: Mapping[str, Tensor]) -> set[str]:
    shape = layer.scale[0].shape
    for level in range(len(layer.scale)):
        for target, word in (
            (layer.scale[level], "weight"),
            (layer.shift[level], "bias"),
            (layer.mean[level], "running_mean"),
            (layer.var[level], "running_var"),
        ):
            target.copy_(_tensor(state, f"{name}.{word}", shape))
    return {f"{name}.{word}" for word in ("weight", "bias", "running_mean", "running_var")}


def _load_plain(layer: nn.Module, name: str, state: Mapping[str, Tensor]) -> set[str]:
    own = (*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False))
    taken = set()
    for word, target in own:
        key = f"{name}.{word}" if name else word
        if word != IGNORED:
            target.copy_(_tensor(state, key, target.shape))
            taken.add(key)
    return taken


def _tensor(state: Mapping[str, Tensor], key: str, shape: torch.Size) -> Tensor:
    if key not in state:
        raise ValueError(f"state: {key} is missing")
    if state[key].shape != shape:
        raise ValueError(f"state: {key} is {tuple(state[key].shape)}; {tuple(shape)} is needed")
    return state[key]


def _flat(chain: nn.Sequential, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    for name, layer in chain.named_children():
        if isinstance(layer, nn.Sequential):
            yield from _flat(layer, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", layer


def _incomplete(layer: nn.Module, scheme: Scheme, before: int, *, first: bool) -> nn.Module:
    """Return the incomplete form of a layer; ``before``: channels of the previous counted layer."""
    if isinstance(layer, nn.Conv2d):
        if layer.groups != 1 or layer.padding_mode != "zeros":
            raise ValueError(f"{layer}: groups and padding modes cannot be wrapped")
        return IncompleteConv2d(
            layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding,
            layer.dilation, bias=layer.bias is not None,
            profile="all-one" if first else scheme.coefficients,
        )  # fmt: skip
    if isinstance(layer, nn.Linear):
        # After Flatten, each channel becomes as many features as the map has pixels.
        each = layer.in_features // before if before else 1

        def profile(count: int) -> Coefficients:
            return np.repeat(scheme.coefficients(count // each), each)

        return IncompleteLinear(
            layer.in_features,
            layer.out_features,
            layer.bias is not None,
            profile="all-one" if first else profile,
        )
    if isinstance(layer, NORMS):
        if not (layer.affine and layer.track_running_stats):
            raise ValueError(f"{layer}: only affine batch norms with statistics can be wrapped")
        return SlimmableBatchNorm(layer.num_features, len(scheme.levels), layer.eps)
    if not isinstance(layer, FREE):
        raise TypeError(f"{type(layer).__name__}: cannot be wrapped")
    return copy.deepcopy(layer)


def _place(network: nn.Module, name: str, layer: nn.Module) -> None:
    """Add ``layer`` under a dotted name, so that a state_dict has the chain's names."""
    *outer, last = name.split(".")
    for word in outer:
        if not hasattr(network, word):
            network.add_module(word, nn.Module())
        network = network.get_submodule(word)
    network.add_module(last, layer)
