"""The table of judges, which weight posterior samples: one row each. It imports no JAX.

Chains of one mixture end in different explanations of it. A judge measures how plausible the priors
find each sample; the estimates are means weighted by that (see `basis.evidence`).
"""

from typing import NamedTuple


class Judge(NamedTuple):
    """A function of `basis` that measures samples, and the noise levels at which it does."""

    function: str
    # noise levels in model units; a level that occurs several times has several draws of noise
    audio: tuple[float, ...] = ()
    images: tuple[float, ...] = ()
    density: bool = False  # whether the priors must know their log density
    local: bool = True  # whether it tells the share of every frame


# Denoising errors tell samples apart at high noise levels, exact densities at low ones. There a
# single draw of noise is too random, hence sixteen.
JUDGES: dict[str, Judge] = {
    "evidence": Judge("implausibility", audio=(0.3, 0.17, 0.1), images=(1.0, 0.5, 0.25)),
    "likelihood": Judge("surprise", images=(0.05,) * 16, density=True, local=False),
    "none": Judge(""),
}
