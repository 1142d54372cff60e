"""Parts of a training step."""

import torch

from zfaudio.training.steps import restart


def test_only_sequences_that_start_get_a_state_of_zeros_whatever_its_shape():
    state = torch.ones(4, 3), torch.ones(4), torch.ones(4, 4, 8)
    starts = torch.tensor([True, False, False, True])
    for part in restart(state, starts):
        assert (part[starts] == 0).all()
        assert (part[~starts] == 1).all()
