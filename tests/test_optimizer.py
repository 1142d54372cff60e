"""Adam: torch's arithmetic, through a stop and a resumption, and no compiler loaded."""

import copy
import subprocess
import sys

import torch
from torch import nn

from zfaudio.training.optimizer import Adam


def test_steps_are_torchs_also_after_a_resumption():
    torch.manual_seed(0)
    networks = [nn.Linear(7, 5) for _ in range(3)]
    for network in networks[1:]:
        network.load_state_dict(networks[0].state_dict())
    ours, resumed = (Adam(list(network.parameters()), 0.01, 1e-5) for network in networks[:2])
    theirs = torch.optim.Adam(networks[2].parameters(), lr=0.01, eps=1e-5)
    for step in range(20):
        rows = torch.randn(4, 7)
        if step == 10:
            resumed = Adam(list(networks[1].parameters()), 0.5, 1e-5)
            resumed.load_state_dict(copy.deepcopy(ours.state_dict()))
        for optimizer, network in zip((ours, resumed, theirs), networks, strict=True):
            optimizer.param_groups[0]["lr"] = 0.01 / (1 + step)
            optimizer.zero_grad()
            network(rows).square().sum().backward()
            optimizer.step()
        assert not ours.state[networks[0].weight]["exp_avg"].requires_grad
    torch.testing.assert_close(list(networks[0].parameters()), list(networks[2].parameters()))
    assert all(map(torch.equal, networks[0].parameters(), networks[1].parameters()))


def test_weights_move_without_being_recorded():
    network = nn.Linear(3, 3)
    before = network.weight.detach().clone()
    optimizer = Adam(list(network.parameters()), 0.01, 1e-5)
    network(torch.ones(3)).sum().backward()
    optimizer.step()
    assert torch.is_grad_enabled()
    assert network.weight.grad_fn is None
    assert not torch.equal(network.weight, before)


def test_no_compiler_is_loaded():
    program = (
        "import sys, torch; from zfaudio.training.optimizer import Adam; weight = torch.zeros(2, requires_grad=True);"
        "optimizer = Adam([weight], 0.1, 1e-5); weight.sum().backward(); optimizer.step(); optimizer.zero_grad();"
        "optimizer.load_state_dict(optimizer.state_dict()); sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
