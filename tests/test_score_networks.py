"""Networks of images: convolution, shapes, published parameter counts, what each layer computes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score.conv2d import convolve2d

RNG = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


# ---- convolution


@pytest.mark.parametrize(("size", "dilation"), [(1, 1), (3, 1), (3, 2), (3, 4), (5, 1), (5, 2)])
def test_convolution_and_its_gradients_are_those_of_lax(size, dilation):
    """Also where the kernel reaches farther than the image, and inside a loop."""
    x, kernel, g = normal(2, 6, 9, 3), normal(size, size, 3, 4), normal(2, 6, 9, 4)

    def reference(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME",
                                            rhs_dilation=(dilation, dilation),
                                            dimension_numbers=("NHWC", "HWIO", "NHWC"))

    ours, pull = jax.vjp(lambda x, k: convolve2d(x, k, dilation), x, kernel)
    theirs, pull_reference = jax.vjp(reference, x, kernel)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    looped = jax.jit(lambda g: jax.lax.map(pull, g[None]))(g)
    for a, b, c in zip(pull(g), pull_reference(g), looped, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)
        np.testing.assert_allclose(a, c[0], atol=2e-4)
