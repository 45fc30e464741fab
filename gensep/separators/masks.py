"""Ratio masks: what networks with one non-negative output per source make of their outputs."""

import jax

SMALL = 1e-8


def ratio_masks(outputs: jax.Array, small: float = SMALL) -> jax.Array:
    """Return the shares of `outputs: [batch, source, ...]`, which are not negative.

    They add up to 1 everywhere: where all outputs are 0, all sources have the same share.
    """
    raised = outputs + small
    return raised / raised.sum(1, keepdims=True)
