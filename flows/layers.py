"""Layers without networks: squeeze, ActNorm, invertible 1x1 convolution, logit."""

from typing import Self

import jax
import jax.numpy as jnp
from flax import nnx

from flows.bijection import Bijection, Condition, replace, sum_elements
from flows.broadcast import align_last

LEAST_SD = 1e-4  # ActNorm's start does not amplify activations with less than this deviation


class Squeeze(Bijection):
    """Space to channels: `[H, W, C] -> [H/p, W/q, pqC]`; ln |det| is 0."""

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
    """Return the shape `[H, W, C]` after a squeeze.

    Raises:
        ValueError: if height or width is not divisible by its factor.
    """
    (height, across, channels), (p, q) = shape, factor
    if height % p or across % q:
        raise ValueError(
            f"expected height and width divisible by {p} and {q} at every level, got "
            f"{height} and {across}; pad or cut the data, or take fewer levels"
        )
    return height // p, across // q, channels * p * q


class ActNorm(Bijection):
    """y = exp(l) (x + b) per channel, initialised to mean 0 and sd 1 (Kingma and Dhariwal 2018).

    A condition `[batch, e]` adds a linear function of itself, initially 0, to l and b; inside
    coupling networks this is FiLM. With a map of conditions, `[batch, H, W, e]`, l and b differ
    from position to position.
    """

    def __init__(self, channels: int, embedding: int = 0, *, rngs: nnx.Rngs):
        self.bias = nnx.Param(jnp.zeros(channels))
        self.log_scale = nnx.Param(jnp.zeros(channels))
        self.film = film(embedding, 2 * channels, rngs)

    def parameters(self, x: jax.Array, condition: Condition) -> tuple[jax.Array, jax.Array]:
        """Return l and b, both broadcastable to x.

        Raises:
            ValueError: if the layer is conditional and `condition` is None.
        """
        scale, bias = align_last(self.log_scale[...], x), align_last(self.bias[...], x)
        if self.film is None:
            return scale, bias
        if condition is None:
            raise ValueError("this flow is conditioned: expected an embedding, got None")
        more, moved = jnp.split(over_positions(self.film(condition)), 2, -1)
        return scale + more, bias + moved

    def __call__(self, x: jax.Array, condition: Condition = None) -> jax.Array:
        """Return y without the determinant."""
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

    def initialize(self, x: jax.Array, condition: Condition = None) -> tuple[Self, jax.Array]:
        """Set l and b from mean and standard deviation of every channel of x."""
        mean, sd = x.mean((0, 1, 2)), x.std((0, 1, 2))
        scale = -jnp.log(jnp.sqrt(sd**2 + LEAST_SD**2))
        made = replace(self, bias=nnx.Param(-mean), log_scale=nnx.Param(scale))
        return made, made(x, condition)


def film(embedding: int, out: int, rngs: nnx.Rngs) -> nnx.Linear | None:
    """Return a linear map of conditions of size `embedding`, initially 0, or None for size 0."""
    if not embedding:
        return None
    zeros = nnx.initializers.zeros
    return nnx.Linear(embedding, out, use_bias=False, rngs=rngs, kernel_init=zeros)


def over_positions(values: jax.Array) -> jax.Array:
    """Return `[batch, C]` as `[batch, 1, 1, C]`; maps `[batch, H, W, C]` stay as they are."""
    return values if values.ndim == 4 else values[:, None, None]


class InvertibleConv(Bijection):
    """y = W x at every position, W = P L (U + diag(s e^l)), initially a random rotation.

    P and the signs s are fixed (Kingma and Dhariwal 2018, eq. 10). The two triangles and l share
    one matrix, as LAPACK packs them. Implementations that store L and U as full matrices have
    C^2 + C more parameters, which are never used.
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
        """Return P, L and U with its diagonal, each `[C, C]`."""
        packed = self.packed[...]
        # rounded, because averaging weights over many steps adds rounding errors
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
        """Map [0, 1] to the real line."""
        p = self.alpha + (1 - 2 * self.alpha) * x
        y = jnp.log(p) - jnp.log1p(-p)
        return y, sum_elements(jnp.log(1 - 2 * self.alpha) - jnp.log(p) - jnp.log1p(-p))

    def inverse(self, z: jax.Array, condition: Condition = None) -> tuple[jax.Array, jax.Array]:
        """Undo `forward`; results beyond the margin alpha lie slightly outside [0, 1]."""
        x = (jax.nn.sigmoid(z) - self.alpha) / (1 - 2 * self.alpha)
        slope = jax.nn.log_sigmoid(z) + jax.nn.log_sigmoid(-z) - jnp.log(1 - 2 * self.alpha)
        return x, sum_elements(slope)
