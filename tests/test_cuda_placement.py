"""Whether models compute entirely on the GPU, checked without a GPU: with tensors that have a device but no values.

torch's fake tensors obey the rules of each operator, including those about devices: a tensor forgotten on the CPU is an
error. They have no values; tests that need a GPU check those. autograd's engine cannot run with them because it asks
the driver, so the tests call hand-written backward passes directly. Triton's kernels do not run: only the devices of
their tensors are checked.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_models import FRAME_SIZE, LATENT_SIZE, every_combination, tiny
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from zfaudio.config import FrameDensityConfig, TrainConfig
from zfaudio.models import FrameModel, build_model
from zfaudio.models.checks import observation_of
from zfaudio.observations import Tokens
from zfaudio.ops.gates import triton_runs
from zfaudio.ops.latent_chain_fast import _LatentChain
from zfaudio.ops.latent_path_fast import _LatentPath
from zfaudio.ops.products import Products
from zfaudio.training.interval import Interval
from zfaudio.training.objective import Weights, training_loss
from zfaudio.training.setup import build_optimizer

CONFIGS = every_combination() | {
    "zforcing plain": tiny(core="plain"),
    "zforcing conditional layer norm": tiny(conditional_layer_norm=True),
    "zforcing all costs": tiny(auxiliary="latent_and_state", backward_reconstruction=True),
    "srnn filtering": tiny("srnn", smoothing=False),
}


class Crossings(TorchDispatchMode):
    """Records the operators that make the CPU and a GPU wait for each other."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        result = operator(*args, **(kwargs or {}))
        devices = {value.device.type for value in (*args, result) if isinstance(value, Tensor)}
        copies = operator.overloadpacket in (torch.ops.aten._to_copy, torch.ops.aten.copy_)
        reads = operator.overloadpacket in (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero)
        if (copies and len(devices) > 1) or (reads and "cuda" in devices):
            self.seen.append(str(operator))
        return result


@pytest.fixture
def no_gpu(monkeypatch) -> Iterator[FakeTensorMode]:
    """Fake tensors, and a stand-in with the same arguments and shapes for cuDNN's LSTM, which asks the driver."""

    def lstm(self: nn.LSTM, rows: Tensor, state: tuple[Tensor, Tensor] | None = None):
        weights = sum(weight.sum() for weight in self.all_weights[0])
        hidden = rows.sum(-1, keepdim=True).expand(*rows.shape[:2], self.hidden_size) + weights
        previous = hidden.new_zeros(1, len(rows), self.hidden_size) if state is None else state[0]
        return hidden, (previous + hidden[:, -1], previous + hidden[:, -1])

    def pack(rows: Tensor, lengths: Tensor, **_) -> Tensor:
        assert lengths.device.type == "cpu"  # torch requires it
        return rows

    monkeypatch.setattr(nn.LSTM, "forward", lstm)
    monkeypatch.setattr("zfaudio.ops.lstm.pack_padded_sequence", pack)
    monkeypatch.setattr("zfaudio.ops.lstm.pad_packed_sequence", lambda hidden, **_: (hidden, None))
    if triton_runs():
        monkeypatch.setattr("zfaudio.ops.triton_gates.launch", launched)
    with FakeTensorMode() as mode:
        yield mode


def launched(kernel: object, tensors: Sequence[Tensor], size: int, **_) -> None:
    assert {tensor.device.type for tensor in tensors} == {"cuda"}


def on_gpu(config: FrameDensityConfig) -> FrameModel:
    with torch.device("cuda"):
        observation = observation_of(config)
        return build_model(config, 1 if isinstance(observation, Tokens) else FRAME_SIZE, observation)


def batch(model: FrameModel) -> tuple[Tensor, Tensor]:
    return torch.zeros(3, 6, model.frame_size, device="cuda"), torch.full((3,), 6, device="cuda")


def tensors(values: object) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif dataclasses.is_dataclass(values):
        yield from tensors([getattr(values, field.name) for field in dataclasses.fields(values)])
    elif isinstance(values, (tuple, list)):
        for value in values:
            yield from tensors(value)


def devices(values: object) -> set[str]:
    return {tensor.device.type for tensor in tensors(values)}


def test_a_tensor_forgotten_on_the_cpu_is_an_error(no_gpu):
    with pytest.raises(RuntimeError, match="device"):
        torch.ones(3, device="cuda") + torch.ones(3)


def test_a_copy_between_cpu_and_gpu_is_recorded(no_gpu):
    values = torch.ones(3, device="cuda")
    with Crossings() as crossings:
        values.cpu()
        torch.ones(3).to("cuda")
        values * values.new_full((), 2.0)
    assert len(crossings.seen) == 2


@pytest.mark.parametrize("name", CONFIGS)
def test_a_pass_stays_on_the_gpu(no_gpu, name):
    model = on_gpu(CONFIGS[name]).eval()
    frames, lengths = batch(model)
    with Crossings() as crossings:
        terms = model(frames, lengths)
        loss = training_loss(terms, Weights(kl=0.2, auxiliary=0.1, backward=0.1))
    assert devices([terms, loss]) == {"cuda"}
    # cuDNN packs sequences by their lengths, read on the CPU.
    packs = CONFIGS[name].name in ("rnn", "srnn", "samplernn")
    assert crossings.seen == (["aten._to_copy.default"] if packs else [])


@pytest.mark.parametrize("name", [name for name in CONFIGS if "rnn" in name])
def test_a_pass_with_fixed_shapes_does_not_read_the_lengths(no_gpu, name):
    model = on_gpu(CONFIGS[name]).eval()
    frames, lengths = batch(model)
    model.use_fixed_shapes()
    with Crossings() as crossings:
        terms = model(frames, lengths)
    assert devices(terms) == {"cuda"}
    assert not crossings.seen


@pytest.mark.parametrize("name", CONFIGS)
def test_a_step_of_generation_stays_on_the_gpu(no_gpu, name):
    model = on_gpu(CONFIGS[name]).eval()
    frames, _ = batch(model)
    step, state = model.stepper(), model.initial_state(3)
    noise = torch.randn(3, model.frame_noise_size, device="cuda")
    with Crossings() as crossings, torch.no_grad():
        density, state = step(frames[:, 0], state)
        drawn = density.at(noise)
    assert devices([drawn, *state]) == {"cuda"}
    assert drawn.shape == (3, model.frame_size)
    assert not crossings.seen


def path_arguments(steps: int, batch: int = 2, hidden: int = 5, mlp: int = 6) -> list[Tensor]:
    """Arguments of `_LatentPath.forward` after `products`."""
    latent = LATENT_SIZE
    shapes = {
        "frame_gates": (steps, batch, 4 * hidden),
        "future": (steps, batch, hidden),
        "noise": (steps, batch, latent),
        "first_hidden": (batch, hidden),
        "first_cell": (batch, hidden),
        "inner_weight": (mlp, 2 * hidden),
        "inner_bias": (mlp,),
        "outer_weight": (2 * latent, mlp),
        "outer_bias": (2 * latent,),
        "gate_weight": (4 * hidden, hidden + latent),
    }
    return [torch.randn(shape, device="cuda") for shape in shapes.values()]


@pytest.mark.parametrize("computed", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("triton", [True, False], ids=["triton", "torch"])
def test_the_latent_path_and_its_backward_pass_stay_on_the_gpu(no_gpu, monkeypatch, computed, triton):
    monkeypatch.setattr("zfaudio.ops.gates.triton_runs", lambda: triton and triton_runs())
    arguments = path_arguments(steps=4)
    context = SimpleNamespace(save_for_backward=lambda *saved: setattr(context, "saved_tensors", saved))
    with Crossings() as crossings:
        outputs = _LatentPath.forward(context, Products(computed, torch.float32), *arguments)
        gradients = _LatentPath.backward(context, *map(torch.ones_like, outputs))
    assert devices(outputs) == devices(gradients) == {"cuda"}
    expected = [None, *arguments]
    expected[3] = None  # the noise has no gradient
    assert [shape_and_dtype(gradient) for gradient in gradients] == [shape_and_dtype(argument) for argument in expected]
    assert not crossings.seen


def shape_and_dtype(tensor: Tensor | None) -> tuple[torch.Size, torch.dtype] | None:
    return None if tensor is None else (tensor.shape, tensor.dtype)


class Kernels(TorchDispatchMode):
    """Counts the operators that compute something, and the kernels that Triton launches."""

    FREE = ("view", "select", "slice", "split", "split_with_sizes", "t", "transpose", "device", "detach", "as_strided")

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        name = operator.overloadpacket.__name__
        self.count += name not in self.FREE and "empty" not in name
        return operator(*args, **(kwargs or {}))


@pytest.mark.skipif(not triton_runs(), reason="needs Triton and a C compiler")
@pytest.mark.parametrize(("computed", "documented"), [(torch.float32, [6, 6]), (torch.bfloat16, [9, 9])], ids=str)
def test_a_frame_launches_as_many_kernels_as_documented(no_gpu, monkeypatch, computed, documented):
    def launches(steps: int) -> list[int]:
        arguments = path_arguments(steps)
        context = SimpleNamespace(save_for_backward=lambda *saved: setattr(context, "saved_tensors", saved))
        with Kernels() as forward:
            monkeypatch.setattr("zfaudio.ops.triton_gates.launch", lambda *_, **__: count(forward))
            outputs = _LatentPath.forward(context, Products(computed, torch.float32), *arguments)
        gradients = list(map(torch.ones_like, outputs))
        with Kernels() as backward:
            monkeypatch.setattr("zfaudio.ops.triton_gates.launch", lambda *_, **__: count(backward))
            _LatentPath.backward(context, *gradients)
        return [forward.count, backward.count]

    def count(kernels: Kernels) -> None:
        kernels.count += 1

    assert [longer - shorter for longer, shorter in zip(launches(5), launches(4), strict=True)] == documented


@pytest.mark.parametrize("computed", [torch.float32, torch.bfloat16], ids=str)
def test_the_backward_pass_of_a_chain_of_latents_stays_on_the_gpu(no_gpu, computed):
    steps, batch, latent, mlp = 4, 2, LATENT_SIZE, 6
    shapes = {
        "known_sums": (steps, batch, 2 * mlp),
        "noise": (steps, batch, latent),
        "first_latents": (batch, latent),
        "latents_weight": (2 * mlp, latent),
        "prior_weight": (2 * latent, mlp),
        "prior_bias": (2 * latent,),
        "posterior_weight": (2 * latent, mlp),
        "posterior_bias": (2 * latent,),
    }
    arguments = {name: torch.randn(shape, device="cuda") for name, shape in shapes.items()}
    context = SimpleNamespace(save_for_backward=lambda *saved: setattr(context, "saved_tensors", saved))
    with Crossings() as crossings:
        outputs = _LatentChain.forward(context, Products(computed, torch.float32), True, *arguments.values())
        gradients = _LatentChain.backward(context, *map(torch.ones_like, outputs))
    assert devices(outputs) == devices(gradients) == {"cuda"}
    del arguments["noise"]  # it has no gradient
    assert [shape_and_dtype(gradient) for gradient in tensors(gradients)] == [
        shape_and_dtype(argument) for argument in arguments.values()
    ]
    assert not crossings.seen


def test_a_step_of_the_optimizer_waits_for_nothing(no_gpu):
    model = on_gpu(tiny())
    optimizer = build_optimizer(model, TrainConfig())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    with Crossings() as crossings:
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert devices([norm, *model.parameters(), *optimizer.state[model.embed.weight].values()]) == {"cuda"}
    assert not crossings.seen


def test_the_log_counts_a_step_without_waiting_for_it(no_gpu):
    model = on_gpu(tiny("rnn"))
    frames, lengths = batch(model)
    terms = model(frames, lengths)
    loss = training_loss(terms, Weights(kl=0.2, auxiliary=0.1, backward=0.1))
    interval = Interval(torch.device("cuda"))
    with Crossings() as crossings:
        interval.add(SimpleNamespace(lengths=np.array([6, 6, 6])), terms, loss, loss)
    assert not crossings.seen
