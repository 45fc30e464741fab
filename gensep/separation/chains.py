"""Many chains of one sampler: dealt over all local devices in groups of one size, compiled once."""

import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Generic, TypeVar

import jax
import numpy as np

from gensep.runtime.devices import local_devices

Result = TypeVar("Result")
Chain = tuple[int, int]  # where the chain's observation lies, number of the posterior sample
Program = Callable[..., Result]


class Chains(Generic[Result]):
    """A program that samples a group of chains, and the seconds that it took.

    All groups have `size` chains, so that one compiled program serves; the last group is padded.
    Programs are kept for the life of the process, by `identity` and the shapes of the arguments.
    """

    def __init__(
        self,
        program: Program[Result],
        identity: Hashable,
        shared: tuple[object, ...],
        chains: Sequence[Chain],
        per_device: int,
    ) -> None:
        """Put what all chains share onto the devices.

        Args:
            program: takes what all chains share and what a group has of its own; traced.
            identity: equal for programs that do the same with arguments of the same shapes.
            shared: pytrees that every device gets a copy of, such as keys, priors, noise levels.
            chains: to be sampled.
            per_device: chains that a device runs at once, at most.
        """
        self.program, self.identity, self.chains = program, identity, chains
        self.devices = local_devices()
        self.size = min(per_device * self.devices.number, self.devices.multiple(len(chains)))
        self.shared = self.devices.share(shared)
        self.compile_seconds = self.run_seconds = 0.0

    def run(
        self, observe: Callable[[list[Chain]], tuple[np.ndarray, ...]]
    ) -> Iterator[tuple[list[Chain], Result]]:
        """Yield the chains of each group and what the program returned for `size` chains.

        `observe` returns what a group has of its own, arrays with a leading axis of chains.
        """
        compiled: Program[Result] | None = None
        for first in range(0, len(self.chains), self.size):
            began = time.perf_counter()
            group = list(self.chains[first : first + self.size])
            padded = group + [group[-1]] * (self.size - len(group))
            arguments = self.shared, self.devices.deal(observe(padded))
            if compiled is None:
                compiled = _compiled(self.program, self.identity, arguments)
                self.compile_seconds = time.perf_counter() - began
                began = time.perf_counter()
            result = jax.block_until_ready(compiled(*arguments))
            self.run_seconds += time.perf_counter() - began
            yield group, result


def _compiled(
    program: Program[Result], identity: Hashable, arguments: tuple[object, ...]
) -> Program[Result]:
    """Compile a program for arguments of these shapes, once per process."""
    leaves, structure = jax.tree.flatten(arguments)
    key = identity, structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)
    if key not in _PROGRAMS:
        _PROGRAMS[key] = jax.jit(program).lower(*arguments).compile()
    return _PROGRAMS[key]


_PROGRAMS: dict[Hashable, Program] = {}
