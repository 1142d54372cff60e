"""Adam, started in no time."""

import inspect

import torch
from torch.optim import Optimizer


class Adam(torch.optim.Adam):
    """torch's Adam, fused, without the wrappers around its methods that hide them from torch.compile.

    They import the compiler when they are first called: two thirds of the time that importing torch takes, at the
    start of every training, for what is never used here.
    """

    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))
    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)

    def __init__(self, parameters: list[torch.nn.Parameter], learning_rate: float, eps: float) -> None:
        super().__init__(parameters, lr=learning_rate, eps=eps, fused=True)
