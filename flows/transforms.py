"""Monotone maps of single numbers, with parameters that coupling networks compute."""

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np


class Transform(Protocol):
    """An elementwise, monotone map of `x: [..., C]` with parameters `raw: [..., C, parameters]`."""

    @property
    def parameters(self) -> int:
        """Number of parameters per element."""
        ...

    @property
    def start(self) -> np.ndarray:
        """Initial parameters, `[parameters]`: they are added to the network, which starts at 0."""
        ...

    def forward(self, x: jax.Array, raw: jax.Array, /) -> tuple[jax.Array, jax.Array]:
        """Return y and ln dy/dx, both shaped like x."""
        ...

    def inverse(self, y: jax.Array, raw: jax.Array, /) -> tuple[jax.Array, jax.Array]:
        """Return x and ln dx/dy, both shaped like y."""
        ...


def bounded(raw: jax.Array, bound: float) -> jax.Array:
    """Return bound tanh(raw / bound), a log scale between -bound and bound."""
    return bound * jnp.tanh(raw / bound)


class Affine(NamedTuple):
    """y = e^l (x + t), |l| < bound."""

    bound: float = 2.0

    @property
    def parameters(self) -> int:
        """Number of parameters per element: l and t."""
        return 2

    @property
    def start(self) -> np.ndarray:
        """Initial parameters, of the identity."""
        return np.zeros(2, np.float32)

    def forward(self, x: jax.Array, raw: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return y and ln dy/dx."""
        log_scale = bounded(raw[..., 0], self.bound)
        return jnp.exp(log_scale) * (x + raw[..., 1]), log_scale

    def inverse(self, y: jax.Array, raw: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return x and ln dx/dy."""
        log_scale = bounded(raw[..., 0], self.bound)
        return jnp.exp(-log_scale) * y - raw[..., 1], -log_scale


class LogisticMixture(NamedTuple):
    """y = e^a logit(F(x)) + b, F the distribution function of a mixture of logistics.

    See Flow++ (Ho et al. 2019, section 3.2). The inverse is found by bisection, because a quantile
    of a mixture lies between the smallest and the largest of those of its components.
    """

    components: int = 8
    bound: float = 2.0  # bound of |a|
    spread: float = 5.0  # bound of the absolute log scales of the components

    @property
    def parameters(self) -> int:
        """Number of parameters per element: a, b, and weights, means and log scales."""
        return 2 + 3 * self.components

    @property
    def start(self) -> np.ndarray:
        """Initial parameters, with distinct means: equal components would always stay equal."""
        means = np.linspace(-1.5, 1.5, self.components)
        zeros = np.zeros(self.components)
        return np.concatenate([[0, 0], zeros, means, zeros]).astype(np.float32)

    def _read(self, raw: jax.Array) -> tuple[jax.Array, ...]:
        """Return a, b `[..., C]` and log weights, means, log scales `[..., C, component]`."""
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
    def _logit(
        x: jax.Array, log_weights: jax.Array, means: jax.Array, log_scales: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Return logit F(x) and the logarithm of its derivative."""
        t = (x[..., None] - means) * jnp.exp(-log_scales)
        below, above = jax.nn.log_sigmoid(t), jax.nn.log_sigmoid(-t)
        log_f = jax.nn.logsumexp(log_weights + below, -1)
        log_rest = jax.nn.logsumexp(log_weights + above, -1)
        log_density = jax.nn.logsumexp(log_weights - log_scales + below + above, -1)
        return log_f - log_rest, log_density - log_f - log_rest

    def forward(self, x: jax.Array, raw: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return y and ln dy/dx."""
        log_scale, shift, *mixture = self._read(raw)
        logit, slope = self._logit(x, *mixture)
        return jnp.exp(log_scale) * logit + shift, log_scale + slope

    def inverse(self, y: jax.Array, raw: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return x and ln dx/dy; the implicit function theorem makes x differentiable."""
        log_scale, shift, *mixture = self._read(raw)
        target = (y - shift) * jnp.exp(-log_scale)
        _, means, log_scales = mixture
        ends = means + jnp.exp(log_scales) * target[..., None]

        def halve(_: jax.Array, bracket: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
            low, high = bracket
            middle = (low + high) / 2
            right = self._logit(middle, *mixture)[0] < target
            return jnp.where(right, middle, low), jnp.where(right, high, middle)

        held = jax.lax.stop_gradient
        low, high = jax.lax.fori_loop(0, 30, halve, (held(ends.min(-1)), held(ends.max(-1))))
        # a Newton step refines the last digits and carries the gradients
        x = held((low + high) / 2)
        logit, slope = self._logit(x, *mixture)
        x = x + (target - logit) * held(jnp.exp(-slope))
        slope = self._logit(x, *mixture)[1]
        return x, -log_scale - slope
