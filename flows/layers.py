"""Layers without networks: squeeze, ActNorm, invertible 1x1 convolution, logit."""

import jax
import jax.numpy as jnp
from flax import nnx

from flows.bijection import Bijection, Condition, replace, sum_elements

LEAST_SD = 1e-4  # of an activation, for ActNorm's start: a constant one is not blown up further


class Squeeze(Bijection):
    """Space to channels: `[H, W, C] -> [H/p, W/q, pqC]`; volume is kept."""

    def __init__(self, factor: tuple[int, int] = (2, 2)):
        self.factor = factor

    def forward(self, x: jax.Array, condition: Condition = None) -> tuple[jax.Array, jax.Array]:
        """Move blocks of p x q positions into channels."""
        (p, q), (b, h, w, c) = self.factor, x.shape
        small = squeezed((h, w, c), self.factor)
        y = x.reshape(b, h // p, p, w // q, q, c).transpose(0, 1, 3, 2, 4, 5)
        return y.reshape(b, *small), jnp.zeros(b)

    def inverse(self, z: jax.Array, condition: Condition = None) -> tuple[jax.Array, jax.Array]:
        """Move channels back into space."""
        (p, q), (b, h, w, c) = self.factor, z.shape
        x = z.reshape(b, h, w, p, q, c // (p * q)).transpose(0, 1, 3, 2, 4, 5)
        return x.reshape(b, h * p, w * q, c // (p * q)), jnp.zeros(b)


def squeezed(shape: tuple[int, int, int], factor: tuple[int, int]) -> tuple[int, int, int]:
    """Give the shape `[H, W, C]` after a squeeze.

    Raises:
        ValueError: where height or width do not divide.
    """
    (height, across, channels), (p, q) = shape, factor
    if height % p or across % q:
        raise ValueError(
            f"expected height and width divisible by {p} and {q} at every level, got "
            f"{height} and {across}; pad or cut the data, or take fewer levels"
        )
    return height // p, across // q, channels * p * q


class ActNorm(Bijection):
    """y = exp(l) (x + b) per channel (Kingma and Dhariwal 2018), set to mean 0 and sd 1 at start.

    A condition shifts l and b linearly, from nothing at the start: inside coupling networks this
    is FiLM. With a map of conditions they differ from place to place.
    """

    def __init__(self, channels: int, embedding: int = 0, *, rngs: nnx.Rngs):
        self.bias = nnx.Param(jnp.zeros(channels))
        self.log_scale = nnx.Param(jnp.zeros(channels))
        self.film = (
            nnx.Linear(
                embedding,
                2 * channels,
                use_bias=False,
                rngs=rngs,
                kernel_init=nnx.initializers.zeros,
            )
            if embedding
            else None
        )

    def parameters(self, x: jax.Array, condition: Condition) -> tuple[jax.Array, jax.Array]:
        """Give l and b, broadcastable to x."""
        scale, bias = self.log_scale[...], self.bias[...]
        if self.film is None:
            return scale, bias
        if condition is None:
            raise ValueError("this flow is conditioned: expected an embedding, got None")
        shift = self.film(condition)
        shift = shift if shift.ndim == x.ndim else shift[:, None, None]
        more, moved = jnp.split(shift, 2, -1)
        return scale + more, bias + moved

    def __call__(self, x: jax.Array, condition: Condition = None) -> jax.Array:
        """Give y alone."""
        scale, bias = self.parameters(x, condition)
        return jnp.exp(scale) * (x + bias)

    def forward(self, x: jax.Array, condition: Condition = None) -> tuple[jax.Array, jax.Array]:
        """Scale and shift."""
        scale, bias = self.parameters(x, condition)
        return jnp.exp(scale) * (x + bias), sum_elements(jnp.broadcast_to(scale, x.shape))

    def inverse(self, z: jax.Array, condition: Condition = None) -> tuple[jax.Array, jax.Array]:
        """Shift and scale back."""
        scale, bias = self.parameters(z, condition)
        return jnp.exp(-scale) * z - bias, -sum_elements(jnp.broadcast_to(scale, z.shape))

    def initialize(self, x: jax.Array, condition: Condition = None) -> tuple["ActNorm", jax.Array]:
        """Take mean and sd of every channel of x."""
        mean, sd = x.mean((0, 1, 2)), x.std((0, 1, 2))
        scale = -jnp.log(jnp.sqrt(sd**2 + LEAST_SD**2))
        made = replace(self, bias=nnx.Param(-mean), log_scale=nnx.Param(scale))
        return made, made(x, condition)


class InvertibleConv(Bijection):
    """y = W x at every place, W = P L (U + diag(s e^l)), started at a random rotation.

    P and the signs s are fixed. The two triangles and l share one matrix, as LAPACK packs them;
    implementations that train full L and U matrices count C^2 + C parameters more, without use.
    """

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        rotation, _ = jnp.linalg.qr(jax.random.normal(rngs.params(), (channels, channels)))
        permutation, lower, upper = jax.scipy.linalg.lu(rotation)
        diagonal = jnp.diag(upper)
        self.packed = nnx.Param(
            jnp.tril(lower, -1) + jnp.triu(upper, 1) + jnp.diag(jnp.log(jnp.abs(diagonal)))
        )
        self.permutation = nnx.Variable(permutation)
        self.signs = nnx.Variable(jnp.sign(diagonal))

    def factors(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Give P, L and U with its diagonal, each `[C, C]`."""
        packed = self.packed[...]
        # rounded: averages of weights over many steps may leave 1 by a rounding error each
        permutation = jax.lax.stop_gradient(jnp.round(self.permutation[...]))
        signs = jax.lax.stop_gradient(jnp.sign(self.signs[...]))
        upper = jnp.triu(packed, 1) + jnp.diag(signs * jnp.exp(jnp.diag(packed)))
        return permutation, jnp.tril(packed, -1) + jnp.eye(len(packed)), upper

    def _logdet(self, x: jax.Array) -> jax.Array:
        total = jnp.diag(self.packed[...]).sum()
        return jnp.full(len(x), x.shape[1] * x.shape[2] * total)

    def forward(self, x: jax.Array, condition: Condition = None) -> tuple[jax.Array, jax.Array]:
        """Multiply by W."""
        permutation, lower, upper = self.factors()
        return x @ (permutation @ lower @ upper).T, self._logdet(x)

    def inverse(self, z: jax.Array, condition: Condition = None) -> tuple[jax.Array, jax.Array]:
        """Multiply by the inverse of W."""
        permutation, lower, upper = self.factors()
        solve = jax.scipy.linalg.solve_triangular
        first = solve(lower, permutation.T, lower=True, unit_diagonal=True)
        return z @ solve(upper, first).T, -self._logdet(z)


class Logit(Bijection):
    """y = ln p - ln(1 - p) with p = alpha + (1 - 2 alpha) x, for x in [0, 1] (Dinh et al. 2017)."""

    def __init__(self, alpha: float = 0.05):
        self.alpha = alpha

    def forward(self, x: jax.Array, condition: Condition = None) -> tuple[jax.Array, jax.Array]:
        """Map [0, 1] to the line."""
        p = self.alpha + (1 - 2 * self.alpha) * x
        y = jnp.log(p) - jnp.log1p(-p)
        return y, sum_elements(jnp.log(1 - 2 * self.alpha) - jnp.log(p) - jnp.log1p(-p))

    def inverse(self, z: jax.Array, condition: Condition = None) -> tuple[jax.Array, jax.Array]:
        """Map the line to [0, 1], and what lies beyond the margins slightly outside of it."""
        x = (jax.nn.sigmoid(z) - self.alpha) / (1 - 2 * self.alpha)
        slope = jax.nn.log_sigmoid(z) + jax.nn.log_sigmoid(-z) - jnp.log(1 - 2 * self.alpha)
        return x, sum_elements(slope)
