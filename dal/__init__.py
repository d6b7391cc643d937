"""Deep active learning on PyTorch Lightning: buy the labels that teach a model most."""

__version__ = "0.5.0"
