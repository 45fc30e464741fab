"""Monotone maps of single numbers whose parameters coupling networks give.

A transform reads `raw: [..., C, parameters]` beside `x: [..., C]` and returns y and ln dy/dx, both
like x. `start` is added to what the network says, whose last layer starts at zero.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


def bounded(raw: jax.Array, bound: float) -> jax.Array:
    """Keep a log scale within +-bound: bound tanh(raw / bound)."""
    return bound * jnp.tanh(raw / bound)


class Affine(NamedTuple):
    """y = e^l (x + t), |l| < bound."""

    bound: float = 2.0

    @property
    def parameters(self) -> int:
        """Numbers per element."""
        return 2

    @property
    def start(self) -> np.ndarray:
        """Start as the identity."""
        return np.zeros(2, np.float32)

    def forward(self, x: jax.Array, raw: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Give y and ln dy/dx."""
        log_scale = bounded(raw[..., 0], self.bound)
        return jnp.exp(log_scale) * (x + raw[..., 1]), log_scale

    def inverse(self, y: jax.Array, raw: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Give x and ln dx/dy."""
        log_scale = bounded(raw[..., 0], self.bound)
        return jnp.exp(-log_scale) * y - raw[..., 1], -log_scale


class LogisticMixture(NamedTuple):
    """y = e^a logit(F(x)) + b, F the distribution function of a mixture of logistics.

    Flow++ (Ho et al. 2019, section 3.2). Its inverse is found by bisection: the quantile of a
    mixture lies between the smallest and the largest quantile of its components.
    """

    components: int = 8
    bound: float = 2.0  # of a
    spread: float = 5.0  # of the components' log scales

    @property
    def parameters(self) -> int:
        """Numbers per element: a, b; weights, means and log scales."""
        return 2 + 3 * self.components

    @property
    def start(self) -> np.ndarray:
        """Start with means apart from one another: equal components would stay equal for ever."""
        means = np.linspace(-1.5, 1.5, self.components)
        zeros = np.zeros(self.components)
        return np.concatenate([[0, 0], zeros, means, zeros]).astype(np.float32)

    def _read(self, raw: jax.Array) -> tuple[jax.Array, ...]:
        k = self.components
        log_weights = jax.nn.log_softmax(raw[..., 2 : 2 + k], -1)
        means, log_scales = raw[..., 2 + k : 2 + 2 * k], raw[..., 2 + 2 * k :]
        return (
            bounded(raw[..., 0], self.bound),
            raw[..., 1],
            log_weights,
            means,
            bounded(log_scales, self.spread),
        )

    @staticmethod
    def _logit(x, log_weights, means, log_scales) -> tuple[jax.Array, jax.Array]:
        """Give logit F(x) and the log of its slope."""
        t = (x[..., None] - means) * jnp.exp(-log_scales)
        below, above = jax.nn.log_sigmoid(t), jax.nn.log_sigmoid(-t)
        log_f = jax.nn.logsumexp(log_weights + below, -1)
        log_rest = jax.nn.logsumexp(log_weights + above, -1)
        log_density = jax.nn.logsumexp(log_weights - log_scales + below + above, -1)
        return log_f - log_rest, log_density - log_f - log_rest

    def forward(self, x: jax.Array, raw: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Give y and ln dy/dx."""
        log_scale, shift, *mixture = self._read(raw)
        logit, slope = self._logit(x, *mixture)
        return jnp.exp(log_scale) * logit + shift, log_scale + slope

    def inverse(self, y: jax.Array, raw: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Give x and ln dx/dy; differentiable, by the implicit function theorem."""
        log_scale, shift, *mixture = self._read(raw)
        target = (y - shift) * jnp.exp(-log_scale)
        _, means, log_scales = mixture
        ends = means + jnp.exp(log_scales) * target[..., None]

        def halve(_, bracket):
            low, high = bracket
            middle = (low + high) / 2
            right = self._logit(middle, *mixture)[0] < target
            return jnp.where(right, middle, low), jnp.where(right, high, middle)

        held = jax.lax.stop_gradient
        low, high = jax.lax.fori_loop(0, 30, halve, (held(ends.min(-1)), held(ends.max(-1))))
        # a step of Newton's takes the last digits, and carries the gradients
        x = held((low + high) / 2)
        logit, slope = self._logit(x, *mixture)
        x = x + (target - logit) * held(jnp.exp(-slope))
        slope = self._logit(x, *mixture)[1]
        return x, -log_scale - slope
