"""The table of samplers: one row each. It imports no JAX until a kernel is made."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from gensep.runtime.errors import UserError

if TYPE_CHECKING:
    from basis import Kernel


class Sampler(NamedTuple):
    """A function of `basis` that makes a kernel, and its arguments."""

    function: str
    arguments: dict[str, str | float | bool] = {}

    def maker(self) -> "Callable[..., Kernel]":
        """Return the function with its arguments filled in."""
        import basis

        return partial(getattr(basis, self.function), **self.arguments)


# name -> how its kernel is made; a new sampler is one file in basis/ and one row here
SAMPLERS: dict[str, Sampler] = {
    "mmps": Sampler("mmps", {"cg_iterations": 2, "memory": 0.0}),
    "mmps-cg1": Sampler("mmps", {"cg_iterations": 1, "memory": 0.0}),
    "mmps-cg4": Sampler("mmps", {"cg_iterations": 4, "memory": 0.0}),
    "mmps-late": Sampler(
        "mmps",
        {"cg_iterations": 4, "early_iterations": 1, "early_above": 0.8, "memory": 0.0},
    ),
    "mmps-sde": Sampler("mmps", {"cg_iterations": 2, "memory": 1.0}),
    "mmps-heun": Sampler("mmps_heun"),
    "mmps-pc": Sampler("mmps_pc"),
    "mmps-draws": Sampler("mmps_draws"),
    "pigdm": Sampler("pigdm"),
    "pigdm-free": Sampler("pigdm", {"vjp": False}),
    "dps": Sampler("dps"),
    "daps": Sampler("daps", {"variance": "spread"}),
    "split-gibbs": Sampler("split_gibbs"),
    "msdm-gaussian": Sampler("msdm", {"likelihood": "gaussian"}),
    "basis": Sampler("langevin", {"at": "denoised"}),
    "basis-noisy": Sampler("langevin", {"at": "noisy"}),
    "mala": Sampler("mala"),
}


def check_sampler(sampler: str, constraint: str) -> None:
    """Refuse a sampler that is not in the table, or a constraint that it does not support.

    Raises:
        UserError: with the names of those that would do.
    """
    if sampler not in SAMPLERS:
        raise UserError(f"sampler must be one of {', '.join(SAMPLERS)}, not '{sampler}'")
    if constraint not in ("soft", "hard"):
        raise UserError(f"constraint must be soft or hard, not '{constraint}'")
    if constraint == "soft":
        return
    able = [n for n, row in SAMPLERS.items() if "hard" in inspect.signature(row.maker()).parameters]
    if sampler not in able:
        raise UserError(
            f"sampler {sampler} supports no hard constraint; those that do: {', '.join(able)}"
        )


def make_kernel(sampler: str, constraint: str) -> "Kernel":
    """Make the kernel of a row of the table."""
    make = SAMPLERS[sampler].maker()
    return make(hard=True) if constraint == "hard" else make()
