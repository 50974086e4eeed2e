import pytest
import torch

from unlearn.stress import round_to_nearest


def test_by_hand():
    # s = 1.75 / 7 = .25; .3 / .25 = 1.2 -> .25, .5 / .25 = 2, 1 / .25 = 4
    assert round_to_nearest(torch.tensor([[-1.75, 0.5, 0.3, 1.0]]), 4).tolist() == [[-1.75, 0.5, 0.25, 1.0]]


def test_halves_go_to_the_even_level_and_rows_are_apart():
    weight = torch.tensor([[7.0, 0.5, 1.5, -2.5], [0.0, 0.0, 0.0, 0.0], [70.0, 5.0, 15.0, -25.0]])
    assert round_to_nearest(weight, 4).tolist() == [[7, 0, 2, -2], [0, 0, 0, 0], [70, 0, 20, -20]]


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_twice_is_once_and_the_error_is_at_most_half_a_step(bits):
    weight = torch.randn(16, 33, generator=torch.Generator().manual_seed(bits))
    once = round_to_nearest(weight, bits)
    torch.testing.assert_close(round_to_nearest(once, bits), once, rtol=1e-6, atol=0)
    step = weight.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
    assert ((once - weight).abs() <= step / 2 * (1 + 1e-5)).all()
    assert all(len(row.unique()) <= 2**bits - 1 for row in once)


@pytest.mark.parametrize(("shape", "bits"), [((3,), 4), ((3, 3), 1), ((3, 3), 17)])
def test_what_cannot_be_rounded_is_refused(shape, bits):
    with pytest.raises(ValueError, match="needs a matrix and 2 to 16 bits"):
        round_to_nearest(torch.ones(shape), bits)
