import math

import pytest
import torch
from point_sets import gaussian

from dal.functional.geometry import nearest_squared_distance


def test_distance_without_centres_is_infinite():
    distance = nearest_squared_distance(gaussian(0, 3, 2), torch.empty(0, 2, dtype=torch.float64))
    assert distance.tolist() == [math.inf] * 3


def test_distance_is_the_square_of_the_distance_to_the_nearest_centre():
    points, centres = torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([[6.0, 8.0], [0.0, 1.0]])
    assert nearest_squared_distance(points, centres).tolist() == [1.0, 18.0]


@pytest.mark.parametrize(("rows", "centres"), [(2048, 256), (2049, 257), (9000, 2100), (5, 700)])
def test_distances_across_tiles_agree_with_cdist(rows, centres, device):
    points, others = gaussian(0, rows, 4).to(device), gaussian(1, centres, 4).to(device)
    exact = torch.cdist(points, others, compute_mode="donot_use_mm_for_euclid_dist").square()
    distance = nearest_squared_distance(points, others)
    assert distance.device.type == device
    torch.testing.assert_close(distance, exact.amin(1), rtol=0, atol=1e-10)


def test_distance_to_a_coinciding_centre_is_never_negative():
    for dtype in (torch.float32, torch.float64):
        points = gaussian(2, 500, 16).to(dtype)
        distance = nearest_squared_distance(points, points)
        assert (distance >= 0).all()
        assert distance.max() < 500 * torch.finfo(dtype).eps


def test_distances_in_float32_do_not_cancel_far_from_the_origin():
    points, others = gaussian(0, 300, 3).float(), gaussian(1, 40, 3).float()
    points, others = ((x * 64).round() / 64 for x in (points, others))  # exact after the shift
    near = nearest_squared_distance(points, others)
    far = nearest_squared_distance(points + 4096, others + 4096)
    torch.testing.assert_close(far, near, rtol=1e-4, atol=1e-5)
