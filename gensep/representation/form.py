"""What the arrays of a prior mean: the protocol `Form`, and the one table of the forms."""

from collections.abc import Callable
from dataclasses import Field
from typing import ClassVar, Protocol, TypeGuard

import numpy as np
from jax.typing import ArrayLike

from gensep.representation.image import ImageForm
from gensep.representation.mel import Representation


class Form(Protocol):
    """What examples `[..., features]` in model units mean; hashable, a dataclass of plain numbers.

    A form of sound (`audible`) also has what `Representation` has: rates and sizes of its frames,
    `encode`, `decode`, the mixing law `mixing`, `masks` and `span_db`. See `is_sound`.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[object]]]
    key: ClassVar[str]  # of the form in the header of prior files
    picture: ClassVar[str]  # how examples are drawn: a row of gensep.plots.examples.PICTURES
    unit: ClassVar[str]  # of negative log densities per dimension, see `in_unit`
    audible: ClassVar[bool]  # examples are frames of sound: waves become them and are made of them
    # The data are integers, dequantised by uniform noise. A density of continuous data is judged
    # with added noise: without it, it may be a spike.
    discrete: ClassVar[bool]
    rescale: ClassVar[bool]  # values lie in [0, 1]; NCSN networks map them to [-1, 1] first

    @property
    def name(self) -> str:
        """Name of the set of images, or of the kind of spectrogram."""

    @property
    def features(self) -> int:
        """Size of the last axis of an example."""

    @property
    def channels(self) -> int:
        """Channels of an example for networks with two-dimensional convolutions."""

    def shape(self, frames: int) -> tuple[int, ...]:
        """Return the shape of an example, of `frames` frames where its length is free."""

    def describe(self) -> str:
        """Return what the examples are, for messages: "spectrograms of 96 mel bands"."""

    def in_unit(self, nats: ArrayLike) -> np.ndarray:
        """Convert negative log densities, nats per dimension in model units, to `unit`."""

    def describe_noise(self, sigma: float) -> str:
        """Return the noise level `sigma` (model units) in units of the data, e.g. "0.50 dB"."""


# key in the header of a prior file -> make the form from the fields stored there
FORMS: dict[str, Callable[..., Form]] = {form.key: form for form in (Representation, ImageForm)}


def is_sound(form: Form) -> TypeGuard[Representation]:
    """Tell whether audio can be separated and waves be made with priors of this form.

    Type checkers then take it for the one form of sound that there is, `Representation`.
    """
    return form.audible
