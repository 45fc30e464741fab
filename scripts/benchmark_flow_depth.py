"""Measure the cost of a flow's depth: compile time, memory and time of an update of Glow.

The K steps of a level run in a scan and are recomputed in the backward pass. With --unrolled DEPTH
the same flow of that depth is also measured without the scan. Write OUTPUT.md.
"""

import os
import shlex
import time
from dataclasses import dataclass
from pathlib import Path

from gensep.cli import config
from gensep.cli.options import Positional
from gensep.runtime import errors

PROG = "python scripts/benchmark_flow_depth.py"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the benchmark."""

    depths: Positional[tuple[int, ...]] = (8, 32, 40, 48)
    """Steps per level."""
    unrolled: tuple[int, ...] = (8,)
    """Depths that are also measured without scan."""
    scales: int = 3
    """Levels of scale."""
    width: int = 128
    """Channels of the coupling networks."""
    batch: int = 8
    """Examples per update."""
    frames: int = 64
    """Frames of an example."""
    bands: int = 96
    """Mel bands of an example, used as channels."""
    output: str | None = None
    """Path without ending for the .md."""


def unroll(module):
    """Return a flow in which every scan over steps is replaced by the steps themselves."""
    import jax

    from flows import Chain, Level, Repeat

    if isinstance(module, Repeat):
        count = len(jax.tree.leaves(module.steps)[0])
        return Chain(*[jax.tree.map(lambda leaf, i=i: leaf[i], module.steps) for i in range(count)])
    if isinstance(module, Chain):
        return Chain(*[unroll(part) for part in module.parts])
    if isinstance(module, Level):
        deeper = None if module.deeper is None else unroll(module.deeper)
        return Level(module.squeeze, unroll(module.steps), module.prior, deeper)
    return module


def measure(c, depth, *, scan):
    """Return the cells of one row."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx

    from flows import Density, SigmaEmbedding, glow, negative_log_likelihood

    def make():
        rngs = nnx.Rngs(0)
        flow = glow(
            (c.frames, 1, c.bands),
            c.scales,
            depth,
            c.width,
            rngs=rngs,
            kernel=(3, 1),
            squeeze=(2, 1),
            embedding=64,
        )
        return Density(
            flow if scan else unroll(flow),
            jnp.zeros(c.bands),
            jnp.asarray(0.3),
            "bands",
            SigmaEmbedding(64, 0.01, rngs=rngs),
        )

    model, optimiser = jax.jit(make)(), optax.adam(1e-4)
    x = jax.random.normal(jax.random.key(0), (c.batch, c.frames, c.bands))
    sigma = jnp.full(c.batch, 0.1)

    def update(model, state):
        gradient = jax.grad(lambda m: negative_log_likelihood(m, x, x, sigma)[0].mean())(model)
        change, state = optimiser.update(gradient, state)
        return optax.apply_updates(model, change), state

    state = optimiser.init(model)
    began = time.perf_counter()
    compiled = jax.jit(update).lower(model, state).compile()
    took = time.perf_counter() - began
    memory = compiled.memory_analysis().temp_size_in_bytes / 2**20
    times = []
    for _ in range(4):
        began = time.perf_counter()
        jax.block_until_ready(compiled(model, state))
        times.append(time.perf_counter() - began)
    size = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
    return (
        f"L{c.scales}K{depth}",
        "scan" if scan else "unrolled",
        f"{size / 1e6:.1f} M",
        f"{took:.1f}",
        f"{memory:.0f}",
        f"{min(times):.2f}",
    )


def main(argv):
    """Measure, print and write the table."""
    c = config.parse(Config, argv)
    from gensep.cli.records import commit, versions
    from gensep.evaluation.statistics import markdown
    from gensep.runtime.files import write_atomically

    rows = [measure(c, depth, scan=True) for depth in c.depths]
    rows += [measure(c, depth, scan=False) for depth in c.unrolled]
    packages = ", ".join(f"{k} {v}" for k, v in versions().items())
    page = "\n".join(
        [
            "# Cost of the depth of a flow",
            "",
            f"An update of a sigma-conditioned Glow, width {c.width}, {c.batch} windows of "
            f"{c.frames} x {c.bands} with bands as channels. Memory is what the compiled update "
            "needs beside parameters and optimiser; the time of an update is the least of four.",
            "",
            markdown(
                ("flow", "steps", "parameters", "compile, s", "memory, MiB", "update, s"), rows
            ),
            "",
            "```sh",
            shlex.join([*PROG.split(), *argv]),
            "```",
            "",
            f"{os.cpu_count()} CPU cores; commit {commit() or 'unknown'}; {packages}.",
        ]
    )
    print(page)
    if c.output:
        write_atomically(Path(f"{c.output}.md"), page + "\n")


if __name__ == "__main__":
    errors.run(main)
