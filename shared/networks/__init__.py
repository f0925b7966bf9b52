"""Networks of incomplete layers: the split binary network, and those of the paper."""

from shared.networks.binarized import BinarizedNetwork
from shared.networks.binarized_paper import PaperBinarizedNetwork
from shared.networks.binarynet import BinaryNet
from shared.networks.cost import Cost, cost
from shared.networks.incomplete import IncompleteNetwork, Scheme, single
from shared.networks.mlp import Mlp
from shared.networks.mobilenet import MobileNet
from shared.networks.vgg import PaperVgg16, Vgg16
from shared.networks.wrapping import load_pretrained, wrap

__all__ = [
    "BinarizedNetwork",
    "BinaryNet",
    "Cost",
    "IncompleteNetwork",
    "Mlp",
    "MobileNet",
    "PaperBinarizedNetwork",
    "PaperVgg16",
    "Scheme",
    "Vgg16",
    "cost",
    "load_pretrained",
    "single",
    "wrap",
]
