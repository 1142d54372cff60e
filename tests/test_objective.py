import pytest
import torch

from zfaudio.config import ObjectiveConfig
from zfaudio.models.base import FrameTerms
from zfaudio.ops.cells import State
from zfaudio.training.objective import Weights, training_loss, weights_at


def test_kl_weight_grows_to_one_and_stays():
    config = ObjectiveConfig(kl_weight_start=0.2, kl_weight_step=5e-5)
    assert weights_at(config, 0).kl == 0.2
    assert weights_at(config, 8000).kl == pytest.approx(0.6)
    assert weights_at(config, 16_000).kl == pytest.approx(1.0)
    assert weights_at(config, 10**6).kl == 1.0


@pytest.mark.parametrize(("start", "end"), [(0.0, 0.01), (0.01, 0.0)])
def test_auxiliary_weight_moves_linearly_between_its_ends(start, end):
    config = ObjectiveConfig(aux_weight_start=start, aux_weight_end=end, aux_weight_step=1e-4)
    assert weights_at(config, 0).auxiliary == start
    assert weights_at(config, 50).auxiliary == pytest.approx(0.005)
    assert weights_at(config, 1000).auxiliary == end


def test_loss_is_the_weighted_sum_of_terms_a_sequence():
    shape = (4, 3)
    state = State(torch.zeros(4, 1), torch.zeros(4, 1))
    terms = FrameTerms(*(torch.full(shape, value) for value in (5.0, 2.0, 0.0, 7.0, 11.0)), state)
    assert training_loss(terms, Weights(kl=0.5, auxiliary=0.1, backward=0.01)).item() == pytest.approx(
        -3 * (5 - 0.5 * 2 + 0.1 * 7 + 0.01 * 11)
    )
    terms.log_auxiliary = terms.log_backward = None
    assert training_loss(terms, Weights(kl=1.0, auxiliary=0.1, backward=0.1)).item() == pytest.approx(-9)
    assert torch.equal(terms.elbo, torch.full(shape, 3.0))


def test_free_bits_leave_the_first_nats_of_each_frame_unpunished():
    terms = FrameTerms.exact(torch.tensor([[-1.0, -2.0, 0.0]]), state=())
    terms.kl = torch.tensor([[0.5, 3.0, 0.0]], requires_grad=True)
    loss = training_loss(terms, Weights(kl=0.5, auxiliary=0.0, backward=0.0, free_bits=2.0))
    assert loss.item() == pytest.approx(3 + 0.5 * (3 - 2))
    loss.backward()
    assert terms.kl.grad.tolist() == [[0.0, 0.5, 0.0]]
