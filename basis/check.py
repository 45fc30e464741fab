"""What cannot work is refused before anything is compiled, in one line with the remedy."""

from collections.abc import Sequence

import jax
import numpy as np

from basis.prior import Prior
from basis.sampler import Kernel, Problem


def check(kernel: Kernel, problem: Problem, sigmas) -> None:
    """Refuse a problem, noise levels or settings that `kernel` cannot work with.

    Raises:
        ValueError: for no prior, levels that do not fall or lie outside a prior's range, a mixture
            or prior that is not finite, shapes that do not fit, or what the kernel itself refuses.
    """
    check_levels(problem.priors, sigmas)
    _check_shapes(problem)
    if not np.isfinite(np.asarray(problem.mixture)).all():
        raise ValueError("the mixture holds values that are not finite; repair it first")
    kernel.check(problem, sigmas)


def check_levels(priors: Sequence[Prior], sigmas) -> None:
    """Refuse noise levels that a prior was not made for, and priors that are broken.

    Raises:
        ValueError: naming the prior, its range and the remedy.
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
                    f"{name} holds weights that are not finite; train it anew or take "
                    "an earlier checkpoint"
                )
    if sigmas.ndim != 1 or not len(sigmas) or not (np.diff(sigmas) < 0).all() or sigmas[-1] <= 0:
        raise ValueError(
            f"expected falling noise levels > 0, e.g. those of score.karras, not {sigmas}"
        )


def _check_shapes(problem: Problem) -> None:
    """Refuse a prior or a mixing map that does not take the mixture's shape."""
    mixture = jax.ShapeDtypeStruct(problem.mixture.shape, problem.mixture.dtype)
    sigma = jax.ShapeDtypeStruct((), mixture.dtype)
    for i, prior in enumerate(problem.priors):
        name = f"prior {i} ({type(prior).__name__})"
        try:
            got = jax.eval_shape(lambda p, x, s: p.score(x, s), prior, mixture, sigma).shape
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{name} does not take elements of shape {mixture.shape[1:]}: "
                f"{str(error).splitlines()[0]}"
            ) from None
        if got != mixture.shape:
            raise ValueError(
                f"{name} gives scores of shape {got} for a mixture of "
                f"{mixture.shape}; take priors of one representation"
            )
    sources = jax.ShapeDtypeStruct((len(problem.priors), *mixture.shape), mixture.dtype)
    try:
        mixed = jax.eval_shape(lambda f, x: f(x), problem.mixing, sources).shape
    except (TypeError, ValueError):
        mixed = None
    if mixed != mixture.shape:
        raise ValueError(
            f"the mixing map does not take {len(problem.priors)} sources; give it one gain for each"
        )
