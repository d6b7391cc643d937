import torch
from torch.nn import functional

from dal.functional.gradients import hypothesised_error

P = torch.tensor([[0.6, 0.3, 0.1], [0.9, 0.05, 0.05], [0.2, 0.5, 0.3]], dtype=torch.float64)
H = torch.tensor([[1.0, 0.0], [3.0, 4.0], [0.0, 2.0]], dtype=torch.float64)


def close(actual, expected, atol=1e-10):
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


def gaussian(seed, *shape):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


def gradients(probs, features):
    """[N, C, D], the product that is never built elsewhere."""
    return torch.einsum("nc,nd->ncd", hypothesised_error(probs), features)


def test_the_error_is_the_probability_less_one_at_the_prediction():
    close(hypothesised_error(P), [[-0.4, 0.3, 0.1], [-0.1, 0.05, 0.05], [0.2, -0.5, 0.3]])


def test_the_error_of_a_certain_prediction_is_zero():
    certain = torch.eye(4)
    assert torch.equal(hypothesised_error(certain), torch.zeros(4, 4))


def test_the_error_of_tied_classes_takes_one_from_one_of_them():
    error = hypothesised_error(torch.tensor([[0.5, 0.5]]))
    assert sorted(error[0].tolist()) == [-0.5, 0.5]


def test_errors_sum_to_zero_over_the_classes():
    probs = gaussian(0, 50, 7).softmax(1)
    close(hypothesised_error(probs).sum(1), torch.zeros(50), atol=1e-14)


def test_the_error_leaves_the_probabilities_as_they_were():
    probs = P.clone()
    hypothesised_error(probs)
    assert torch.equal(probs, P)


def test_gradients_have_their_known_norms_and_distances():
    g = gradients(P, H).flatten(1)
    close(g.square().sum(1), [0.26, 0.375, 1.52])
    distances = [(g[i] - g[j]).square().sum() for i, j in ((0, 1), (0, 2), (1, 2))]
    close(torch.stack(distances), [0.275, 1.78, 2.375])


def test_factors_give_the_norms_and_distances_of_the_gradients():
    probs, features = gaussian(1, 30, 4).softmax(1), gaussian(2, 30, 6)
    error, g = hypothesised_error(probs), gradients(probs, features).flatten(1)
    norms = error.square().sum(1) * features.square().sum(1)
    best = probs.amax(1)
    close(norms, g.square().sum(1), atol=1e-12)
    close(norms, (probs.square().sum(1) + 1 - 2 * best) * features.square().sum(1), atol=1e-12)
    factorised = norms[:, None] + norms[None] - 2 * (error @ error.T) * (features @ features.T)
    explicit = torch.cdist(g, g, compute_mode="donot_use_mm_for_euclid_dist").square()
    close(factorised, explicit, atol=1e-12)


def test_gradients_are_those_of_the_cross_entropy_at_the_predicted_label():
    weight = gaussian(3, 4, 6).requires_grad_()
    features = gaussian(4, 20, 6)
    probs = (features @ weight.detach().T).softmax(1)
    for i in range(20):
        logits = features[i] @ weight.T
        loss = functional.cross_entropy(logits, logits.argmax())
        [expected] = torch.autograd.grad(loss, weight)
        close(gradients(probs, features)[i], expected, atol=1e-12)


def test_the_predicted_label_has_the_smallest_gradient():
    probs, features = gaussian(5, 50, 4).softmax(1), gaussian(6, 50, 6)
    smallest = gradients(probs, features).flatten(1).norm(dim=1)
    for label in range(4):
        error = probs - functional.one_hot(torch.tensor(label), 4)
        norm = torch.einsum("nc,nd->ncd", error, features).flatten(1).norm(dim=1)
        assert (smallest <= norm + 1e-12).all()
