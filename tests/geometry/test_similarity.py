"""CKA, cosine and linearity error against independent formulas in float64."""

import itertools

import numpy as np
import pytest
import torch

from mull.geometry.similarity import cka, gram, hsic, layer_statistics, linear_cka, linearity_error


def states(seed, n=9, d=5):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def hsic_by_quadruples(x, y):
    """The unbiased HSIC as its definition: the mean over all ordered quadruples of different tokens."""
    k, m = (x @ x.T).numpy(), (y @ y.T).numpy()
    found = [k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in itertools.permutations(range(len(k)), 4)]
    return np.mean(found)


def kornblith(x, y):
    """Linear CKA of Kornblith et al. 2019, equation 4 with Gram matrices: tr(KHLH) / √(tr(KHKH)·tr(LHLH))."""
    x, y = x.numpy(), y.numpy()
    h = np.eye(len(x)) - 1 / len(x)
    k, m = x @ x.T, y @ y.T

    def trace(a, b):
        return np.trace(a @ h @ b @ h)

    return trace(k, m) / np.sqrt(trace(k, k) * trace(m, m))


def test_hsic_is_the_mean_over_quadruples():
    x, y = states(0, n=7), states(1, n=7, d=3)
    y[:, 0] += x[:, 0]
    assert hsic(gram(x), gram(y)) == pytest.approx(hsic_by_quadruples(x, y), rel=1e-12)
    assert hsic(gram(x), gram(x)) == pytest.approx(hsic_by_quadruples(x, x), rel=1e-12)


def test_with_many_tokens_it_is_kornblith_s_cka():
    x = states(0, n=1500, d=8)
    y = x @ states(1, n=8, d=6) + 0.5 * states(2, n=1500, d=6)
    assert linear_cka(x, y) == pytest.approx(kornblith(x, y), abs=5e-3)
    assert 0.2 < linear_cka(x, y) < 0.98


def test_few_tokens_of_unrelated_states_are_not_alike():
    """The biased form says 0.8 and more for such; that is why the unbiased one is taken."""
    pairs = [(states(i, n=12, d=64), states(1000 + i, n=12, d=64)) for i in range(60)]
    assert np.mean([kornblith(x, y) for x, y in pairs]) > 0.8
    assert abs(np.mean([linear_cka(x, y) for x, y in pairs])) < 0.1


def test_rotation_scale_and_shift_change_nothing_but_other_maps_do():
    x, y = states(0, n=40), states(1, n=40)
    y += x
    rotation, _ = torch.linalg.qr(states(2, n=5))
    turned = 3.5 * y @ rotation + 7
    assert linear_cka(x, turned) == pytest.approx(linear_cka(x, y), rel=1e-9)
    assert linear_cka(y, turned) == pytest.approx(1, abs=1e-12)
    assert linear_cka(x, y * torch.tensor([9.0, 1, 1, 1, 1])) != pytest.approx(linear_cka(x, y), rel=1e-3)


def test_one_layer_against_numpy():
    lams = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    h = torch.stack([states(i, n=12) for i in range(3)]).float()
    found = layer_statistics(h, lams)
    x = h.double().numpy()
    for i in range(2):
        a, b = x[i], x[i + 1]
        cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
        assert found.cosine[i] == pytest.approx(cosine.mean(), rel=1e-12)
        assert cka(found.cross, found.own)[i] == pytest.approx(linear_cka(h[i], h[i + 1]), rel=1e-12)
    wanted = np.linalg.norm(x[1] - 0.7 * x[0] - 0.3 * x[2]) / np.linalg.norm(x[2] - x[0])
    error = linearity_error(found.distance, np.array(found.change))
    assert error == pytest.approx([0, wanted, 0], abs=1e-12)


def test_states_on_the_straight_line_have_no_linearity_error_and_equal_ends_none_at_all():
    lams = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    ends = states(0), states(1)
    line = torch.stack([torch.lerp(*ends, lam) for lam in lams])
    found = layer_statistics(line, lams)
    assert linearity_error(found.distance, np.array(found.change)) == pytest.approx([0, 0, 0], abs=1e-12)
    same = ends[0].float().expand(3, -1, -1) * torch.tensor([1, 1 + 6e-8, 1 + 1.2e-7])[:, None, None]
    found = layer_statistics(same, lams)  # rounding is no difference
    assert found.change == 0 and np.isnan(linearity_error(found.distance, np.array(found.change))).all()
