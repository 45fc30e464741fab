"""Square roots of covariances of which only products with vectors are known."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from basis.broadcast import align_first


def root_times(
    covariance: Callable[[jax.Array], jax.Array], z: jax.Array, iterations: int, largest: jax.Array
) -> jax.Array:
    """Return C^(1/2) z for the blocks C of `covariance`, one for each source and batch element.

    Lanczos' method: C^(1/2) z = |z| Q T^(1/2) e_1, where T is the tridiagonal matrix of C in the
    Krylov basis Q of z, with one row per iteration. It is exact if T has as many rows as C has
    distinct eigenvalues.

    Args:
        covariance: a linear map of `[source, batch, ...]` to the same shape.
        z: `[source, batch, ...]`.
        iterations: number of products with the covariance.
        largest: upper bound of the eigenvalues; those of T are clipped to [0, largest], because the
            Jacobian of a network is only nearly symmetric.
    """
    axes = tuple(range(2, z.ndim))

    def dot(a: jax.Array, b: jax.Array) -> jax.Array:
        return (a * b).sum(axes, keepdims=True)

    length = jnp.sqrt(dot(z, z))
    q, before = z / jnp.maximum(length, 1e-20), jnp.zeros_like(z)
    basis, alphas, betas, beta = [], [], [], jnp.zeros_like(length)
    for _ in range(iterations):
        basis.append(q)
        image = covariance(q) - beta * before
        alpha = dot(q, image)
        image = image - alpha * q
        # orthogonalise again: rounding errors would reintroduce earlier directions
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
    return length * sum(align_first(first[..., i], z) * basis[i] for i in range(n))
