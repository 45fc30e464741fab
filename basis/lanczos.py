"""Square roots of covariances that are known by their products only."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def root_times(
    covariance: Callable[[jax.Array], jax.Array], z: jax.Array, iterations: int, largest: jax.Array
) -> jax.Array:
    """Give C^(1/2) z for the blocks C of `covariance`, one for each source and batch element.

    Lanczos' method: C^(1/2) z = |z| Q T^(1/2) e_1, with T the `iterations`-sized tridiagonal
    matrix of C in the Krylov basis Q of z; exact when T has as many rows as C has eigenvalues.

    Args:
        covariance: maps `[source, batch, ...]` to the same shape, linear.
        z: `[source, batch, ...]`.
        iterations: products with the covariance.
        largest: no eigenvalue is larger; those of T are kept in [0, largest], because a network's
            Jacobian is only nearly symmetric.
    """
    axes = tuple(range(2, z.ndim))

    def dot(a, b):
        return (a * b).sum(axes, keepdims=True)

    length = jnp.sqrt(dot(z, z))
    q, before = z / jnp.maximum(length, 1e-20), jnp.zeros_like(z)
    basis, alphas, betas, beta = [], [], [], jnp.zeros_like(length)
    for _ in range(iterations):
        basis.append(q)
        image = covariance(q) - beta * before
        alpha = dot(q, image)
        image = image - alpha * q
        # orthogonal again: rounding would let earlier directions come back
        for earlier in basis:
            image = image - dot(earlier, image) * earlier
        beta = jnp.sqrt(dot(image, image))
        before, q = q, image / jnp.maximum(beta, 1e-20)
        alphas.append(alpha.reshape(z.shape[:2]))
        betas.append(beta.reshape(z.shape[:2]))
    n = iterations
    t = jnp.zeros((*z.shape[:2], n, n), z.dtype)
    for i in range(n):
        t = t.at[..., i, i].set(alphas[i])
        if i + 1 < n:
            t = t.at[..., i, i + 1].set(betas[i]).at[..., i + 1, i].set(betas[i])
    values, vectors = jnp.linalg.eigh(t)
    roots = jnp.sqrt(jnp.clip(values, 0, largest))
    first = jnp.einsum("sbij,sbj,sbj->sbi", vectors, roots, vectors[..., 0, :])
    shape = (*z.shape[:2], *[1] * (z.ndim - 2))
    return length * sum(first[..., i].reshape(shape) * basis[i] for i in range(n))
