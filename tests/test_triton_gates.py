"""The kernels of ops/triton_gates.py without a GPU: interpreted against ops/gates.py, and compiled.

Triton's interpreter runs a kernel's programs one after another on the CPU, and its compiler makes machine code for
GPUs that are not here. Neither tells how fast a kernel is.
"""

import importlib.util
import inspect
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from closeness import assert_all_close
from hypothesis import given, settings
from hypothesis import strategies as st
from operators import tensors
from tiny_models import build, sequences, tiny
from torch import Tensor, nn

from zfaudio.ops import gates, latent_chain_fast, latent_path_fast
from zfaudio.ops.cells import LatentLSTMCell, State
from zfaudio.ops.latent_path import plain_latent_path
from zfaudio.ops.latent_path_fast import fast_latent_path
from zfaudio.ops.networks import GaussianMLP

triton = pytest.importorskip("triton")

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from zfaudio.ops import triton_gates  # noqa: E402

FUNCTIONS = (
    "lstm_step",
    "lstm_step_backward",
    "draw_latents",
    "draw_latents_backward",
    "activate",
    "activate_backward",
)
KINDS = {torch.float32: "fp32", torch.float64: "fp64", torch.bfloat16: "bf16"}
ARCHITECTURES = {"Volta": 70, "Ampere": 80, "Hopper": 90, "Blackwell": 100}
TOLERANCE = {torch.float32: {"rtol": 1e-5, "atol": 1e-5}, torch.float64: {"rtol": 1e-12, "atol": 1e-12}}

sizes = st.integers(1, 20)


@pytest.fixture(scope="module")
def interpreted() -> Iterator[ModuleType]:
    """A second copy of the module, whose kernels Triton interprets."""
    spec = importlib.util.find_spec("zfaudio.ops.triton_gates")
    module = importlib.util.module_from_spec(spec)
    with triton.knobs.runtime.scope():
        triton.knobs.runtime.interpret = True
        spec.loader.exec_module(module)
    return module


def arguments_of(name: str, batch: int, size: int, dtype: torch.dtype, products: torch.dtype | None = None) -> list:
    """Arguments of a function, with values that are clamped, and slices of wider tensors where the loop passes such.

    Products have the type `products`. `size` is the hidden, latent and mlp size.
    """
    products = products or dtype

    def rows(columns: int, kind: torch.dtype = dtype, scale: float = 1.0, margin: int = 0) -> Tensor:
        return (scale * torch.randn(batch, columns + margin)).to(kind)[:, :columns]

    def mask(columns: int) -> Tensor:
        return (torch.rand(batch, columns) < 0.8).to(dtype)

    gate_sums = [rows(4 * size), rows(4 * size, products), rows(size), rows(size), rows(size, margin=3)]
    steps = [rows(4 * size).sigmoid(), rows(size), rows(size), rows(4 * size)]
    expanded = rows(1).expand(batch, size)  # the gradient of a sum
    return {
        "lstm_step": gate_sums,
        "lstm_step_backward": [
            [rows(size, products), rows(size, margin=2), expanded],
            [rows(size), rows(size)],
            *steps,
        ],
        "draw_latents": [rows(2 * size, scale=6), rows(2 * size, products), rows(size), rows(size, margin=5)],
        "draw_latents_backward": [
            [rows(size, products, margin=4), expanded],
            rows(2 * size, margin=1),
            rows(2 * size),
            rows(size),
            mask(2 * size),
        ],
        "activate": [rows(size, scale=4), rows(size, products, margin=3)],
        "activate_backward": [rows(size, products), rows(size, scale=3).clamp(-3, 3), rows(size)],
    }[name]


def test_both_files_have_the_same_functions():
    for name in FUNCTIONS:
        ours, theirs = (inspect.signature(getattr(module, name)) for module in (triton_gates, gates))
        assert ours == theirs, name


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
@given(batch=sizes, size=st.integers(2, 20), seed=st.integers(0, 99), low=st.booleans())
@settings(max_examples=10)
def test_a_kernel_computes_what_the_operators_do(interpreted, name, dtype, batch, size, seed, low):
    """All arguments are compared afterwards, those that nothing is written to as well."""
    outcomes = []
    for module in (interpreted, gates):
        torch.manual_seed(seed)
        arguments = arguments_of(name, batch, size, dtype, torch.bfloat16 if low else dtype)
        returned = getattr(module, name)(*arguments)
        outcomes.append(tensors([returned, arguments]))
    for ours, theirs in zip(*outcomes, strict=True):
        torch.testing.assert_close(ours, theirs, **TOLERANCE[dtype])


def test_blocks_of_a_wide_row_are_all_computed(interpreted):
    size = 2 * triton_gates.COLUMNS + 3
    outcomes = []
    for module in (interpreted, gates):
        torch.manual_seed(0)
        arguments = arguments_of("lstm_step", 2, size, torch.float64)
        module.lstm_step(*arguments)
        outcomes.append(arguments)
    torch.testing.assert_close(*outcomes)


def test_nan_stays_nan(interpreted):
    for name, written in (("activate", 0), ("draw_latents", 3), ("lstm_step", 4)):
        arguments = arguments_of(name, 1, 4, torch.float32)
        arguments[0] = torch.full_like(arguments[0], float("nan"))
        getattr(interpreted, name)(*arguments)
        assert arguments[written].isnan().all(), name


@given(batch=sizes, steps=st.integers(1, 3), hidden=sizes, latent=sizes, mlp=sizes, seed=st.integers(0, 99))
@settings(max_examples=10)
def test_a_path_of_kernels_is_the_plain_one(interpreted, batch, steps, hidden, latent, mlp, seed):
    """Gradients included, with the products of a GPU."""
    torch.manual_seed(seed)
    modules = GaussianMLP(2 * hidden, mlp, latent), LatentLSTMCell(4, latent, mlp, hidden), nn.Linear(3, 4)
    for module in modules:
        module.double()
        for parameter in module.parameters():
            parameter.data.add_(0.4 * torch.randn_like(parameter))
    frames, future, noise = (torch.randn(batch, steps, size).double() for size in (3, hidden, latent))
    state = State(*torch.randn(2, batch, hidden).double().requires_grad_())

    def outcome(path) -> list[Tensor]:
        result = path(*modules, frames, future.requires_grad_(), noise, state)
        posterior = result.posterior
        values = [result.hidden, result.cell, posterior.mean, posterior.log_variance, result.latents]
        weights = [weight for module in modules for weight in module.parameters()]
        # The gradient of a plain sum is one expanded number; the squares give other gradients.
        loss = sum((value * value).sum() for value in values[:3]) + sum(value.sum() for value in values)
        return [*values, *torch.autograd.grad(loss, [future, *state, *weights])]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latent_path_fast, "gates_for", lambda tensor: interpreted)
        kernels = outcome(fast_latent_path)
    assert_all_close(kernels, outcome(plain_latent_path), torch.float64)


@pytest.mark.parametrize("residual", [True, False])
def test_a_chain_of_kernels_is_the_loop(interpreted, monkeypatch, residual):
    model, (frames, lengths, noise) = build(tiny("srnn", residual_posterior=residual)), sequences(5, 3)

    def outcome(core: str) -> list[Tensor]:
        model.config.core = core
        terms = model(frames, lengths, None, noise)
        loss = (terms.log_likelihood - terms.kl).sum() + terms.latents.drawn.sum()
        return [terms.log_likelihood, terms.kl, *torch.autograd.grad(loss, list(model.parameters()))]

    monkeypatch.setattr(latent_chain_fast, "gates_for", lambda tensor: interpreted)
    for ours, theirs in zip(outcome("fast"), outcome("plain"), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-9)


class Compiled:
    """Stands in for a kernel: a launch compiles it for a GPU and does not run it."""

    def __init__(self, kernel: object, architecture: int) -> None:
        self.kernel, self.target = kernel, GPUTarget("cuda", architecture, 32)
        self.code: list[bytes] = []

    def __getitem__(self, grid: tuple[int, ...]):
        return self.compile

    def compile(self, *arguments: Tensor | int, **constants: object) -> None:
        signature = {
            name: f"*{KINDS[value.dtype]}" if isinstance(value, Tensor) else "i32"
            for name, value in zip(self.kernel.arg_names, arguments, strict=False)
        }
        signature |= dict.fromkeys(constants, "constexpr")
        source = ASTSource(self.kernel, signature, constants)
        self.code.append(triton.compile(source, self.target).asm["cubin"])


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES.keys())
@pytest.mark.parametrize(
    ("dtype", "products"),
    [(torch.float32, torch.float32), (torch.float32, torch.bfloat16), (torch.float64, torch.float64)],
    ids=str,
)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_kernel_compiles_for_gpus_in_use(monkeypatch, name, dtype, products, architecture):
    compiled = Compiled(getattr(triton_gates, f"_{name}"), architecture)
    monkeypatch.setattr(triton_gates, f"_{name}", compiled)
    getattr(triton_gates, name)(*arguments_of(name, 2, 64, dtype, products))
    assert compiled.code[0].startswith(b"\x7fELF")
