"""Handwritten digits that come with scikit-learn: 1,797 images of 8 x 8, no download."""

import torch

from dal.data.data import Data, Normalise, TensorRows, stratified_split
from dal.settings import Count, Number, checked


@checked
def digits(test_size: Count = 500, split_seed: Number = 0) -> Data:
    """Load the digits and hold out a stratified test set.

    Alpaydin and Kaynak, UCI Optical Recognition of Handwritten Digits, 1998. Pixels are 0 to 16
    and enter the network divided by 16.

    Args:
        test_size: rows of the test set; the other 1,797 - test_size may be bought.
        split_seed: fixes the split, so that every run is judged on the same images.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(bunch.images).to(torch.uint8).unsqueeze(1)  # [1797, 1, 8, 8]
    targets = torch.from_numpy(bunch.target)
    generator = torch.Generator().manual_seed(split_seed)
    keep, held = stratified_split(targets, test_size, generator)
    return Data(
        train=TensorRows(images[keep], targets[keep]),
        test=TensorRows(images[held], targets[held]),
        classes=tuple(str(digit) for digit in range(10)),
        normalise=Normalise(scale=16.0),
    )
