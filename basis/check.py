"""Checks before compilation: errors of one line that name the remedy."""

from collections.abc import Sequence

import jax
import numpy as np
from jax.typing import ArrayLike

from basis.mixing import Generated
from basis.prior import Prior
from basis.sampler import Kernel, Problem, sources_shape


def check(kernel: Kernel, problem: Problem, sigmas: ArrayLike) -> None:
    """Refuse a problem, noise levels or settings that `kernel` cannot work with.

    Raises:
        ValueError: if there is no prior, if noise levels do not fall or lie outside the range of a
            prior, if a mixture or prior is not finite, if shapes do not fit, or if the check of the
            kernel itself fails.
    """
    check_levels(problem.priors, sigmas)
    if isinstance(problem.mixing, Generated) and not kernel.generated:
        raise ValueError(
            "this sampler needs an elementwise mixing map; with generators take mmps, langevin or "
            "mala"
        )
    _check_shapes(problem)
    if not np.isfinite(np.asarray(problem.mixture)).all():
        raise ValueError("the mixture contains values that are not finite; repair it first")
    kernel.check(problem, sigmas)


def check_levels(priors: Sequence[Prior], sigmas: ArrayLike) -> None:
    """Refuse noise levels outside the range of a prior, and priors that are not finite.

    Raises:
        ValueError: it names the prior, its range and the remedy.
    """
    sigmas = np.asarray(sigmas)
    if not len(priors):
        raise ValueError("expected at least one prior, got none; give one for each source")
    for i, prior in enumerate(priors):
        name = f"prior {i} ({type(prior).__name__})"
        low, high = float(np.min(prior.sigmas)), float(np.max(prior.sigmas))
        bad = [s for s in sigmas if not low * 0.999 <= s <= high * 1.001]
        if bad:
            raise ValueError(
                f"{name} has no level near sigma={bad[0]:.4g}; its "
                f"levels run from {high:.4g} to {low:.4g}: anneal within them or train it there"
            )
        for leaf in jax.tree.leaves(prior):
            values = np.asarray(leaf)
            if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
                raise ValueError(
                    f"{name} contains weights that are not finite; train it again or use "
                    "an earlier checkpoint"
                )
    if sigmas.ndim != 1 or not len(sigmas) or not (np.diff(sigmas) < 0).all() or sigmas[-1] <= 0:
        raise ValueError(
            f"expected falling noise levels > 0, e.g. those of score.karras, not {sigmas}"
        )


def _check_shapes(problem: Problem) -> None:
    """Refuse a prior or a mixing map that does not accept the shape of the mixture."""
    mixture = jax.ShapeDtypeStruct(problem.mixture.shape, problem.mixture.dtype)
    sigma = jax.ShapeDtypeStruct((), mixture.dtype)
    sources = jax.ShapeDtypeStruct(sources_shape(problem), mixture.dtype)
    one = jax.ShapeDtypeStruct(sources.shape[1:], mixture.dtype)
    for i, prior in enumerate(problem.priors):
        name = f"prior {i} ({type(prior).__name__})"
        try:
            got = jax.eval_shape(lambda p, x, s: p.score(x, s), prior, one, sigma).shape
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{name} does not accept elements of shape {one.shape[1:]}: "
                f"{str(error).splitlines()[0]}"
            ) from None
        if got != one.shape:
            raise ValueError(
                f"{name} returns scores of shape {got} for sources of shape "
                f"{one.shape}; use priors of one representation"
            )
    try:
        mixed = jax.eval_shape(lambda f, x: f(x), problem.mixing, sources).shape
    except (TypeError, ValueError):
        mixed = None
    if mixed != mixture.shape:
        raise ValueError(
            f"the mixing map does not accept {len(problem.priors)} sources; give it one gain each"
        )
