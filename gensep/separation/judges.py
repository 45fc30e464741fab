"""The table of judges, which weight posterior samples: one row each. It imports no JAX.

Chains of one mixture end in different explanations of it. A judge measures how plausible the priors
find each sample; the estimates are means weighted by that (see `basis.evidence`).
"""

from typing import NamedTuple


class Weighting(NamedTuple):
    """Where samples are measured, and how strongly their weights depend on that."""

    # noise levels in model units; a level that occurs several times has several draws of noise
    levels: tuple[float, ...] = ()
    temperature: float = 1.0  # nats; 0 takes the likeliest sample, inf makes all equal


class Judge(NamedTuple):
    """A function of `basis` that measures samples, and how it is used."""

    function: str
    audio: Weighting = Weighting()
    images: Weighting = Weighting()
    density: bool = False  # whether the priors must know their log density

    def of(self, kind: str) -> Weighting:
        """Return how samples of "audio" or "images" are weighted; without levels if they cannot."""
        return self.audio if kind == "audio" else self.images


# Denoising errors tell samples apart at high noise levels, exact densities at low ones. There a
# single draw of noise is too random, hence sixteen.
JUDGES: dict[str, Judge] = {
    "evidence": Judge(
        "implausibility",
        audio=Weighting((0.3, 0.17, 0.1), 10.0),
        images=Weighting((1.0, 0.5, 0.25), 4.16),
    ),
    "likelihood": Judge("surprise", images=Weighting((0.05,) * 16, 3.0), density=True),
    "none": Judge(""),
}
