"""SRNN's chain of latents as one autograd function, built like latent_path_fast.py.

    prior_t = clamp(U_p f(W_p d_t + V_p z_{t-1}))           mean and log-variance
    posterior_t = clamp(U_q f(W_q a_t + V_q z_{t-1}))       mean and log-variance
    z_t = posterior mean (+ prior mean, if the posterior's is a correction of it) + deviation * noise

W_p d_t and W_q a_t depend on no latent, so they are computed for all frames at once, before the chain. V_p and V_q are
one product. For the backward pass the chain keeps 2 * mlp + 5 * latent elements per frame, and the noise.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from zfaudio.ops.gates import gates_for, sum_of
from zfaudio.ops.networks import LATENT_LIMIT, GaussianMLP, linear_layers
from zfaudio.ops.products import Products, autocast_products


class LatentChain(NamedTuple):
    """The distributions and latents of each step."""

    prior: Tensor  # mean and log-variance of p(z_t), [batch, steps, 2 * latent]
    posterior: Tensor  # mean and log-variance of q(z_t), [batch, steps, 2 * latent]
    latents: Tensor  # z_t, [batch, steps, latent]


def fast_latent_chain(
    prior: GaussianMLP,
    posterior: GaussianMLP,
    residual: bool,
    hidden: Tensor,
    future: Tensor,
    first_latents: Tensor,
    noise: Tensor,
) -> LatentChain:
    """At each step, draw z_t from the posterior.

    Args:
        prior: (d_t, z_{t-1}) -> p(z_t).
        posterior: (a_t, z_{t-1}) -> q(z_t).
        residual: whether the mean that the posterior network gives is a correction of the prior's mean.
        hidden: d_t, [batch, steps, hidden].
        future: a_t, [batch, steps, size].
        first_latents: z_0, [batch, latent].
        noise: standard normal, [batch, steps, latent].
    """
    products = autocast_products(first_latents)
    latent_size = first_latents.shape[-1]
    prior_inner, prior_outer = linear_layers(prior.layers)
    posterior_inner, posterior_outer = linear_layers(posterior.layers)
    hidden_weight, prior_latents_weight = prior_inner.weight.split([hidden.shape[-1], latent_size], dim=1)
    future_weight, posterior_latents_weight = posterior_inner.weight.split([future.shape[-1], latent_size], dim=1)
    prior_sums = F.linear(hidden.transpose(0, 1), hidden_weight, prior_inner.bias)
    posterior_sums = F.linear(future.transpose(0, 1), future_weight, posterior_inner.bias)
    with torch.autocast(first_latents.device.type, enabled=False):
        priors, posteriors, latents = _LatentChain.apply(  # type: ignore[no-untyped-call]
            products,
            residual,
            torch.cat([prior_sums, posterior_sums], dim=-1),
            noise.to(products.result_dtype).transpose(0, 1),
            first_latents,
            torch.cat([prior_latents_weight, posterior_latents_weight]),
            prior_outer.weight,
            prior_outer.bias,
            posterior_outer.weight,
            posterior_outer.bias,
        )
    if residual:
        mean = posteriors[..., :latent_size] + priors[..., :latent_size]
        posteriors = torch.cat([mean, posteriors[..., latent_size:]], dim=-1)
    return LatentChain(priors.transpose(0, 1), posteriors.transpose(0, 1), latents.transpose(0, 1))


class _LatentChain(torch.autograd.Function):
    """The chain and its gradient. Steps come before the batch in all shapes."""

    @staticmethod
    def forward(
        ctx: Any,
        products: Products,
        residual: bool,
        known_sums: Tensor,
        noise: Tensor,
        first_latents: Tensor,
        latents_weight: Tensor,
        prior_weight: Tensor,
        prior_bias: Tensor,
        posterior_weight: Tensor,
        posterior_bias: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run the chain.

        Args:
            ctx: of the autograd function.
            products: how to multiply.
            residual: see `fast_latent_chain`.
            known_sums: sums of both hidden layers without z_{t-1}, the prior's first, [steps, batch, 2 * mlp].
            noise: standard normal, [steps, batch, latent].
            first_latents: z_0, [batch, latent].
            latents_weight: for z_{t-1}, the prior's rows first, [2 * mlp, latent].
            prior_weight: second layer of the prior, [2 * latent, mlp].
            prior_bias: its bias, [2 * latent].
            posterior_weight: second layer of the posterior, [2 * latent, mlp].
            posterior_bias: its bias, [2 * latent].

        Returns:
            Mean and log-variance that the prior network gives, [steps, batch, 2 * latent].
            Mean and log-variance that the posterior network gives, [steps, batch, 2 * latent].
            z_1..z_S, [steps, batch, latent].
        """
        noise = noise.contiguous()
        steps, batch, latent_size = noise.shape
        inner = known_sums.to(products.result_dtype, copy=True)  # each step replaces its row by activations
        prior_inner, posterior_inner = inner.chunk(2, dim=-1)
        priors = prior_bias.to(noise).repeat(steps, batch, 1)
        posteriors = posterior_bias.to(noise).repeat(steps, batch, 1)
        latents = noise.new_empty(steps + 1, batch, latent_size)
        latents[0] = first_latents
        multiply_latents = products.packed(latents_weight)
        multiply_prior, multiply_posterior = products.packed(prior_weight), products.packed(posterior_weight)
        elementwise = gates_for(noise)
        for t in range(steps):
            elementwise.activate(inner[t], multiply_latents(latents[t]))
            priors[t].add_(multiply_prior(prior_inner[t])).clamp_(-LATENT_LIMIT, LATENT_LIMIT)
            elementwise.draw_latents(posteriors[t], multiply_posterior(posterior_inner[t]), noise[t], latents[t + 1])
            if residual:
                latents[t + 1].add_(priors[t, :, :latent_size])
        ctx.products, ctx.residual = products, residual
        ctx.save_for_backward(noise, latents_weight, prior_weight, posterior_weight, inner, priors, posteriors, latents)
        return priors, posteriors, latents[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_priors: Tensor, d_posteriors: Tensor, d_latents_all: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the arguments of `forward`, from those of its results."""
        products: Products = ctx.products
        noise, latents_weight, prior_weight, posterior_weight, inner, priors, posteriors, latents = ctx.saved_tensors
        steps, _, latent_size = noise.shape

        multiply_latents = products.packed(latents_weight.t())
        multiply_prior, multiply_posterior = products.packed(prior_weight.t()), products.packed(posterior_weight.t())
        d_inner = torch.empty_like(inner)
        prior_inner, posterior_inner = inner.chunk(2, dim=-1)
        d_prior_inner, d_posterior_inner = d_inner.chunk(2, dim=-1)
        prior_free = (priors.abs() < LATENT_LIMIT).to(priors)  # 1 where nothing was clamped
        d_prior_sums = prior_free * d_priors
        # 1 where nothing was clamped; each step replaces its row by the gradient of the unclamped parameters.
        d_posterior_sums = (posteriors.abs() < LATENT_LIMIT).to(posteriors)
        d_latents = torch.zeros_like(noise[0])  # of z_t, from the step after it
        elementwise = gates_for(noise)
        for t in reversed(range(steps)):
            d_draw = d_latents, d_latents_all[t]
            elementwise.draw_latents_backward(d_draw, d_posteriors[t], posteriors[t], noise[t], d_posterior_sums[t])
            if ctx.residual:
                d_prior_sums[t, :, :latent_size].addcmul_(prior_free[t, :, :latent_size], sum_of(d_draw))
            elementwise.activate_backward(multiply_prior(d_prior_sums[t]), prior_inner[t], out=d_prior_inner[t])
            elementwise.activate_backward(
                multiply_posterior(d_posterior_sums[t]), posterior_inner[t], out=d_posterior_inner[t]
            )
            d_latents = multiply_latents(d_inner[t])

        # What is left is one product over all frames for each gradient.
        d_prior_rows, d_posterior_rows = d_prior_sums.flatten(0, 1), d_posterior_sums.flatten(0, 1)
        return (
            None,  # products
            None,  # residual
            d_inner,  # known_sums
            None,  # noise
            d_latents.to(noise),  # first_latents
            products.weight_gradient(d_inner.flatten(0, 1), latents[:-1].flatten(0, 1)),  # latents_weight
            products.weight_gradient(d_prior_rows, prior_inner.flatten(0, 1)),  # prior_weight
            d_prior_rows.sum(0),  # prior_bias
            products.weight_gradient(d_posterior_rows, posterior_inner.flatten(0, 1)),  # posterior_weight
            d_posterior_rows.sum(0),  # posterior_bias
        )
