"""How fast each parameter of a flow may learn: what keeps deep and wide ones from diverging."""

from typing import Any

import jax
import jax.numpy as jnp

BASE = 64  # numbers that an output of a convolution sums over, up to which it learns at full rate


def learning_rates(model: Any) -> Any:
    """Give a factor of Adam's rate for every leaf of a flow, a tree like `model`.

    An update of Adam moves every entry of a matrix by about the rate, and what many entries move
    adds up: a C x C matrix by up to C times the rate, a product of K of them K times that. At 192
    channels and 96 steps, the full rate of 1e-3 diverges within 500 updates. So convolutions get
    BASE / fan-in (Yang et al. 2021, "Tensor Programs V"), matrices of 1x1 convolutions C^-1/2.
    """

    def factor(path, leaf):
        name = jax.tree_util.keystr(path)
        if "packed" in name:
            return leaf.shape[-1] ** -0.5
        if "kernel" in name and leaf.ndim >= 4:  # [..., kh, kw, in, out]
            return min(1.0, BASE / (leaf.shape[-4] * leaf.shape[-3] * leaf.shape[-2]))
        return 1.0

    return jax.tree_util.tree_map_with_path(lambda p, x: jnp.float32(factor(p, x)), model)
