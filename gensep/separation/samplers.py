"""The table of samplers: one row each."""

import inspect
from collections.abc import Callable
from functools import partial

import basis
from basis import Kernel
from gensep.runtime.errors import UserError

# name -> maker of a kernel; a new sampler is one file in basis/ and one row here
SAMPLERS: dict[str, Callable[..., Kernel]] = {
    "mmps": partial(basis.mmps, cg_iterations=2, memory=0.0),
    "mmps-cg1": partial(basis.mmps, cg_iterations=1, memory=0.0),
    "mmps-cg4": partial(basis.mmps, cg_iterations=4, memory=0.0),
    "mmps-sde": partial(basis.mmps, cg_iterations=2, memory=1.0),
    "mmps-heun": basis.mmps_heun,
    "mmps-pc": basis.mmps_pc,
    "mmps-draws": basis.mmps_draws,
    "pigdm": basis.pigdm,
    "pigdm-free": partial(basis.pigdm, vjp=False),
    "dps": basis.dps,
    "daps": partial(basis.daps, variance="spread"),
    "split-gibbs": basis.split_gibbs,
    "msdm-gaussian": partial(basis.msdm, likelihood="gaussian"),
    "basis": partial(basis.langevin, at="denoised"),
    "basis-noisy": partial(basis.langevin, at="noisy"),
    "mala": basis.mala,
}


def check_sampler(sampler: str, constraint: str) -> None:
    """Refuse a sampler that is not in the table, or one that knows no hard constraint.

    Raises:
        UserError: with those that do.
    """
    if sampler not in SAMPLERS:
        raise UserError(f"sampler must be one of {', '.join(SAMPLERS)}, not '{sampler}'")
    if constraint not in ("soft", "hard"):
        raise UserError(f"constraint must be soft or hard, not '{constraint}'")
    able = [name for name, make in SAMPLERS.items() if "hard" in inspect.signature(make).parameters]
    if constraint == "hard" and sampler not in able:
        raise UserError(
            f"sampler {sampler} knows no hard constraint; those that do: {', '.join(able)}"
        )


def make_kernel(sampler: str, constraint: str) -> Kernel:
    """Make the kernel of a row of the table."""
    make = SAMPLERS[sampler]
    return make(hard=True) if constraint == "hard" else make()
