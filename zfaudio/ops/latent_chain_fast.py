"""SRNN's chain of latents as one autograd function; see ops/fast.py for what such functions do otherwise.

    p_t = [W_p d_t + V_p z_{t-1}], q_t = [W_q a_t + V_q z_{t-1}]      V_p and V_q in one product
    prior_t = clamp(U_p f(p_t)), posterior_t = clamp(U_q f(q_t))      mean and log-variance
    z_t = posterior_t's mean (+ prior_t's, a correction of which it is then) + deviation * noise

W_p d_t and W_q a_t wait for nothing: autograd computes them over all frames before.
Kept for the backward pass: 2 * mlp + 5 * latent elements a frame, and the noise.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from zfaudio.ops.gates import total
from zfaudio.ops.kernels import gates_for
from zfaudio.ops.networks import LATENT_LIMIT, GaussianMLP, linear_layers
from zfaudio.ops.products import Products, autocast_products


class Chain(NamedTuple):
    """What the chain leaves behind, one row a step."""

    prior: Tensor  # mean and log-variance, [batch, steps, 2 * latent]
    posterior: Tensor  # the same, the prior's mean in its own where it corrects that
    drawn: Tensor  # z_t, [batch, steps, latent]


class ChainWeights(NamedTuple):
    """Weights of the loop."""

    latent: Tensor  # of both first layers, the prior's above the posterior's, [2 * mlp, latent]
    prior: Tensor  # second layer, [2 * latent, mlp]
    prior_bias: Tensor
    posterior: Tensor
    posterior_bias: Tensor


def latent_chain(
    prior: GaussianMLP,
    posterior: GaussianMLP,
    residual: bool,
    hidden: Tensor,
    future: Tensor,
    latent: Tensor,
    noise: Tensor,
) -> Chain:
    """Draw z_t step by step from the posterior.

    Args:
        prior: (d_t, z_{t-1}) -> p(z_t).
        posterior: (a_t, z_{t-1}) -> q(z_t), or its correction of the prior's mean.
        residual: whether it is a correction.
        hidden: d_t, [batch, steps, hidden].
        future: a_t, [batch, steps, size].
        latent: z_0, [batch, latent].
        noise: standard normal, [batch, steps, latent].
    """
    multiply = autocast_products(latent)
    layers = [linear_layers(network.layers) for network in (prior, posterior)]
    entering, from_latent = [], []
    for rows, (first, _) in zip((hidden, future), layers, strict=True):
        known, chained = first.weight.split([rows.shape[-1], latent.shape[-1]], dim=1)
        entering.append(F.linear(rows.transpose(0, 1), known, first.bias))
        from_latent.append(chained)
    second = [part for _, layer in layers for part in (layer.weight, layer.bias)]
    with torch.autocast(latent.device.type, enabled=False):
        priors, posteriors, drawn = (
            values.transpose(0, 1)
            for values in _LatentChain.apply(
                multiply,
                residual,
                torch.cat(entering, dim=-1),
                noise.to(multiply.given).transpose(0, 1),
                latent,
                torch.cat(from_latent),
                *second,
            )
        )
    if residual:
        size = latent.shape[-1]
        posteriors = torch.cat([posteriors[..., :size] + priors[..., :size], posteriors[..., size:]], dim=-1)
    return Chain(priors, posteriors, drawn)


class _LatentChain(torch.autograd.Function):
    """Time-major: what waits for no latent [S, B, 2 M], noise [S, B, Z], z_0 [B, Z], `ChainWeights`.

    Gives the parameters that the two networks give, [S, B, 2 Z] each, and z_1..z_S [S, B, Z].
    """

    @staticmethod
    def forward(
        ctx: Any, multiply: Products, residual: bool, entering: Tensor, noise: Tensor, first: Tensor, *others: Tensor
    ) -> tuple[Tensor, ...]:
        weights, noise = ChainWeights(*others), noise.contiguous()
        inner = entering.to(multiply.given, copy=True)  # its activations in the end
        steps, batch, size = noise.shape
        units = inner.shape[-1] // 2
        priors, posteriors = (
            bias.to(noise).repeat(steps, batch, 1) for bias in (weights.prior_bias, weights.posterior_bias)
        )
        latent = noise.new_empty(steps + 1, batch, size)
        latent[0] = first
        from_latent = multiply.packed(weights.latent)
        from_prior, from_posterior = multiply.packed(weights.prior), multiply.packed(weights.posterior)
        arithmetic = gates_for(noise)
        for t in range(steps):
            arithmetic.activate(inner[t], from_latent(latent[t]))
            priors[t].add_(from_prior(inner[t, :, :units])).clamp_(-LATENT_LIMIT, LATENT_LIMIT)
            arithmetic.draw_latent(posteriors[t], from_posterior(inner[t, :, units:]), noise[t], latent[t + 1])
            if residual:
                latent[t + 1].add_(priors[t, :, :size])
        ctx.multiply, ctx.residual = multiply, residual
        ctx.save_for_backward(noise, *others, inner, priors, posteriors, latent)
        return priors, posteriors, latent[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_priors: Tensor, d_posteriors: Tensor, d_latent: Tensor) -> tuple[Tensor | None, ...]:
        multiply: Products = ctx.multiply
        noise, *rest = ctx.saved_tensors
        weights, (inner, priors, posteriors, latent) = ChainWeights(*rest[:5]), rest[5:]
        steps, _, size = noise.shape
        units = inner.shape[-1] // 2

        to_latent = multiply.packed(weights.latent.t())
        to_prior, to_posterior = multiply.packed(weights.prior.t()), multiply.packed(weights.posterior.t())
        d_inner = torch.empty_like(inner)
        free = (priors.abs() < LATENT_LIMIT).to(priors)
        d_prior_sums = free * d_priors
        d_posterior_sums = (posteriors.abs() < LATENT_LIMIT).to(posteriors)  # then their gradient
        d_chained = torch.zeros_like(noise[0])
        arithmetic = gates_for(noise)
        for t in reversed(range(steps)):
            d_drawn = d_chained, d_latent[t]
            arithmetic.draw_latent_backward(d_drawn, d_posteriors[t], posteriors[t], noise[t], d_posterior_sums[t])
            if ctx.residual:
                d_prior_sums[t, :, :size].addcmul_(free[t, :, :size], total(d_drawn))
            for gradient, first in ((to_prior(d_prior_sums[t]), 0), (to_posterior(d_posterior_sums[t]), units)):
                part = slice(first, first + units)
                arithmetic.activate_backward(gradient, inner[t, :, part], out=d_inner[t, :, part])
            d_chained = to_latent(d_inner[t])

        # What is left is one product over all frames for each gradient.
        d_prior_sums, d_posterior_sums = d_prior_sums.flatten(0, 1), d_posterior_sums.flatten(0, 1)
        activations = inner.flatten(0, 1)
        d_weights = ChainWeights(
            latent=multiply.weight_gradient(d_inner.flatten(0, 1), latent[:-1].flatten(0, 1)),
            prior=multiply.weight_gradient(d_prior_sums, activations[:, :units]),
            prior_bias=d_prior_sums.sum(0),
            posterior=multiply.weight_gradient(d_posterior_sums, activations[:, units:]),
            posterior_bias=d_posterior_sums.sum(0),
        )
        return None, None, d_inner, None, d_chained.to(noise), *d_weights
