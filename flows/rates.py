"""Learning rates per parameter, which keep deep and wide flows from diverging."""

from typing import TypeVar

import jax
import jax.numpy as jnp

Tree = TypeVar("Tree")
BASE = 64  # the largest fan-in of a convolution that learns at the full rate


def learning_rates(model: Tree) -> Tree:
    """Return a factor of Adam's learning rate for every leaf of a flow, as a tree like `model`.

    An update of Adam changes every entry of a matrix by about the learning rate, and these changes
    add up: the output of a C x C matrix changes by up to C times the rate, that of a product of K
    matrices by K times as much. With 192 channels and 96 steps, training at the full rate of 1e-3
    diverges within 500 updates. So convolutions get the factor BASE / fan-in (Yang et al. 2021,
    "Tensor Programs V"), and the matrices of 1x1 convolutions C^-1/2.
    """

    def factor(path: tuple, leaf: jax.Array) -> float:
        name = jax.tree_util.keystr(path)
        if "packed" in name:
            return leaf.shape[-1] ** -0.5
        if "kernel" in name and leaf.ndim >= 4:  # [..., kh, kw, in, out]
            return min(1.0, BASE / (leaf.shape[-4] * leaf.shape[-3] * leaf.shape[-2]))
        return 1.0

    return jax.tree_util.tree_map_with_path(lambda p, x: jnp.float32(factor(p, x)), model)
