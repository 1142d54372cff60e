"""The inverse hyperbolic sine: that it is torch's."""

import pytest
import torch

from zfaudio.ops.inverse_sine import asinh


@pytest.mark.parametrize(("dtype", "precision"), [(torch.float32, 5e-7), (torch.float64, 1e-15)], ids=str)
def test_it_is_the_inverse_of_the_hyperbolic_sine_at_every_size(dtype, precision):
    sizes = torch.logspace(-18, 6, 2000, dtype=dtype)
    values = torch.cat([-sizes, torch.zeros(1, dtype=dtype), sizes])
    torch.testing.assert_close(asinh(values), torch.asinh(values), rtol=precision, atol=0)


def test_what_is_not_a_number_stays_so():
    assert asinh(torch.tensor(float("nan"))).isnan()
