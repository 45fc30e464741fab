"""Noise levels: the only place they are computed."""

import jax
import jax.numpy as jnp
import numpy as np


def karras(n: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> np.ndarray:
    """Give `n` falling levels, dense near sigma_min (Karras et al. 2022, eq. 5), float32 `[n]`."""
    if n < 1 or not 0 < sigma_min <= sigma_max:
        raise ValueError("expected n >= 1 and 0 < sigma_min <= sigma_max, "
                         f"not {n}, {sigma_min}, {sigma_max}")
    t = np.linspace(0, 1, n) if n > 1 else np.zeros(1)
    ends = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return ((ends[0] + t * (ends[1] - ends[0])) ** rho).astype(np.float32)


def geometric(n: int, sigma_min: float, sigma_max: float) -> np.ndarray:
    """Give `n` falling levels of constant ratio (Song and Ermon 2019), float32 `[n]`."""
    if n < 1 or not 0 < sigma_min <= sigma_max:
        raise ValueError("expected n >= 1 and 0 < sigma_min <= sigma_max, "
                         f"not {n}, {sigma_min}, {sigma_max}")
    return np.geomspace(sigma_max, sigma_min, n).astype(np.float32)


def lognormal(key: jax.Array, n: int, mean: float, sd: float, low: float, high: float) -> jax.Array:
    """Draw `n` training levels, ln sigma ~ N(mean, sd^2), stratified and kept in [low, high]."""
    place_key, order_key = jax.random.split(key)
    u = (jnp.arange(n) + jax.random.uniform(place_key, (n,))) / n
    u = jax.random.permutation(order_key, u)
    sigma = jnp.exp(mean + sd * jax.scipy.special.ndtri(jnp.clip(u, 1e-6, 1 - 1e-6)))
    return jnp.clip(sigma, low, high)
