"""Stems from magnitudes of all sources: phases of the mixture, then EM, as Open-Unmix has it.

The sources are local Gaussians as in `wiener`. Every iteration takes powers v_j and spatial
covariances R_j from the estimates y_j themselves and filters the mixture by them:

    v_j = mean_channel |y_j|^2,  R_j = sum_t y_j y_j^H / (sum_t v_j + eps),
    y_j = v_j R_j (sum_k v_k R_k + sqrt(eps) I)^-1 x.

It leaves out the posterior covariances of EM proper (`wiener.expectation`), and works on windows of
some frames, so that sources may move. Uhlich et al. 2017, "Improving music source separation based
on deep neural networks through data augmentation and network blending"; Liutkus and Stoeter 2019,
norbert.
"""

from functools import partial

import jax
import jax.numpy as jnp

from gensep.inversion.phase import phase_of
from gensep.inversion.wiener import outer

WINDOW = 300  # frames
SCALE = 10.0  # largest magnitude in a window while EM runs
EPS = 1e-10
LEAST = EPS**0.5  # eigenvalue of the model of the mixture


@partial(jax.jit, static_argnames=("iterations", "softmask", "residual", "window"))
def stems_of(
    estimates: jax.Array,
    mixture: jax.Array,
    *,
    iterations: int = 1,
    softmask: bool = False,
    residual: bool = False,
    window: int = WINDOW,
) -> jax.Array:
    """Return complex stems `[source, channel, frame, bin]` for `estimates` of their magnitudes.

    Args:
        estimates: `[source, channel, frame, bin]`; one channel stands for all.
        mixture: complex, `[channel, frame, bin]`.
        iterations: of EM; 0 leaves the estimates as they are at first.
        softmask: the first estimates are the mixture times the ratios of the magnitudes, and not
            the magnitudes with the phases of the mixture.
        residual: a last stem is added, first what the others leave of the mixture.
        window: frames that EM takes together.

    Raises:
        ValueError: for iterations with a single stem: there is nothing to tell it from.
    """
    if iterations > 0 and len(estimates) + residual < 2:
        raise ValueError("EM needs two sources or a residual, not one source")
    if softmask:
        shares = estimates / (EPS + estimates.sum(0, keepdims=True))
        stems = shares * mixture[None]
    else:
        stems = estimates * phase_of(mixture)[None]
    if residual:
        stems = jnp.concatenate([stems, (mixture - stems.sum(0))[None]])
    if iterations == 0:
        return stems
    whole = mixture.shape[1] // window
    parts = []
    if whole:
        both = _windows(stems, whole, window), _windows(mixture, whole, window)
        done = jax.lax.map(lambda pair: _em(pair[0], pair[1], iterations), both)
        parts = [jnp.moveaxis(done, 0, -3).reshape(*stems.shape[:2], whole * window, -1)]
    if whole * window < mixture.shape[1]:
        at = whole * window
        parts.append(_em(stems[..., at:, :], mixture[..., at:, :], iterations))
    return jnp.concatenate(parts, -2)


def _windows(x: jax.Array, count: int, length: int) -> jax.Array:
    """Cut `[..., frame, bin]` into the first windows, `[window, ..., frame, bin]`."""
    x = x[..., : count * length, :].reshape(*x.shape[:-2], count, length, x.shape[-1])
    return jnp.moveaxis(x, -3, 0)


def _em(stems: jax.Array, mixture: jax.Array, iterations: int) -> jax.Array:
    """Run EM on one window, at a level that its constants are meant for."""
    level = jnp.maximum(1, jnp.abs(mixture).max() / SCALE)
    mixture = mixture / level

    def iterate(_: int, stems: jax.Array) -> jax.Array:
        power = jnp.mean(jnp.abs(stems) ** 2, 1)
        covariances = outer(stems).sum(-2) / (EPS + power.sum(-2))[:, None, None]
        return _filtered(power, covariances, mixture)

    return jax.lax.fori_loop(0, iterations, iterate, stems / level) * level


def _filtered(power: jax.Array, covariances: jax.Array, mixture: jax.Array) -> jax.Array:
    """Return v_j R_j V^-1 x `[source, channel, frame, bin]`.

    Products of small matrices are written out: they are elementwise over frames and bins.
    """
    models = covariances[..., None, :]  # [source, channel, channel, 1, bin]
    total = (power[:, None, None] * models).sum(0)
    eye = jnp.eye(len(mixture))[:, :, None, None]
    whitened = _solution(total + LEAST * eye, mixture)
    return power[:, None] * (models * whitened[None, None]).sum(2)


def _solution(matrix: jax.Array, vector: jax.Array) -> jax.Array:
    """Solve Hermitian `[n, n, ...]`, no eigenvalue below LEAST, for `[n, ...]` by elimination.

    Then no pivot is below LEAST. Rounding errors would make some so where the channels of a loud
    mixture are the same.
    """
    n = len(vector)
    rows, x = [list(row) for row in matrix], list(vector)
    pivots = []
    for k in range(n):
        pivots.append(jnp.maximum(rows[k][k].real, LEAST))
        for i in range(k + 1, n):
            ratio = rows[i][k] / pivots[k]
            x[i] = x[i] - ratio * x[k]
            for j in range(k + 1, n):
                rows[i][j] = rows[i][j] - ratio * rows[k][j]
    for k in reversed(range(n)):
        for j in range(k + 1, n):
            x[k] = x[k] - rows[k][j] * x[j]
        x[k] = x[k] / pivots[k]
    return jnp.stack(x)
