"""Measure the cost of the sampler itself, without its networks: time, memory, compilation.

All times are wall-clock seconds of one process, measured one after another. Write OUTPUT.md.
"""

import os
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gensep.cli.config import parse
from gensep.runtime import errors

PROG = "scripts/benchmark_overhead.py"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the benchmark."""

    priors: tuple[str, ...] = ("piano", "violin")
    """Shipped names or run folders."""
    frames: int = 320
    """Frames of the mixture."""
    chains: int = 2
    """Number of parallel chains."""
    steps: int = 14
    """Noise levels."""
    products: int = 4
    """Conjugate-gradient products per level."""
    repeats: int = 5
    """Repetitions of each measurement, of which the least is reported."""
    output: str | None = None
    """Path without ending for the .md."""


def clock(program: Callable[..., Any], *arguments: Any, repeats: int) -> float:
    """Return the least wall-clock seconds of `repeats` runs of a compiled program."""
    import jax

    jax.block_until_ready(program(*arguments))
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(program(*arguments))
        best = min(best, time.perf_counter() - began)
    return best


def measure(c: Config) -> dict[str, str]:
    """Return the rows of the table."""
    import jax
    import jax.numpy as jnp

    from basis import Gaussian, Problem, mmps, sample
    from basis.prior import denoise_all
    from basis.windowed import windowed
    from gensep.separation.separate import assemble
    from score import karras

    team = assemble(c.priors)
    form, k = team.representation, len(c.priors)
    wide = tuple(windowed(p, 128, 32) for p in team.priors)
    level = jnp.asarray([100.0, 1e-3])
    flat = tuple(
        Gaussian(jnp.zeros(form.n_mels), jnp.full(form.n_mels, 0.25), level) for _ in c.priors
    )
    mixture = jax.random.normal(jax.random.key(0), (c.chains, c.frames, form.n_mels)) / 2

    def compiled(priors, steps):
        sigmas = jnp.asarray(karras(steps, 0.2, 2.0, 5.0))

        def run(key, priors, mixture, sigmas):
            problem = Problem(priors, form.mixing(jnp.zeros(k)), mixture, jnp.asarray(1e-3))
            return sample(mmps(c.products, memory=0.0), key, problem, sigmas)[0]

        arguments = jax.random.key(1), priors, mixture, sigmas
        began = time.perf_counter()
        program = jax.jit(run).lower(*arguments).compile()
        took = time.perf_counter() - began
        memory = program.memory_analysis().temp_size_in_bytes / 2**20
        return clock(program, *arguments, repeats=c.repeats), memory, took

    def networks(priors, x):
        """Evaluate networks and products as often as the sampler does, and nothing else."""

        def level(x, sigma):
            y, pull = jax.vjp(lambda z: denoise_all(priors, z, sigma), x)
            for _ in range(c.products):
                y = pull(y)[0]
            return y, None

        return jax.lax.scan(level, x, jnp.linspace(2.0, 0.2, c.steps))[0]

    whole, memory, took = compiled(wide, c.steps)
    _, longer, _ = compiled(wide, 4 * c.steps)
    bare, _, _ = compiled(flat, c.steps)
    x = jnp.broadcast_to(mixture, (k, *mixture.shape))
    alone = clock(jax.jit(networks), wide, x, repeats=c.repeats)
    rows = {
        "sampler, s": f"{whole:.3f}",
        "its networks alone, s": f"{alone:.3f}",
        "sampler with Gaussian priors, s": f"{bare:.3f}",
        "overhead, by Gaussian priors": f"{100 * bare / whole:.1f} %",
        "compiling, s": f"{took:.1f}",
        f"working memory at {c.steps} levels, MiB": f"{memory:.0f}",
        f"working memory at {4 * c.steps} levels, MiB": f"{longer:.0f}",
    }
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *wide)

    def together(priors, x):
        return jax.vmap(lambda prior, x: prior.score(x, jnp.asarray(1.0)))(priors, x)

    def apart(priors, x):
        return jnp.stack([p.score(x_k, jnp.asarray(1.0)) for p, x_k in zip(priors, x, strict=True)])

    one = clock(jax.jit(apart), wide, x, repeats=c.repeats)
    two = clock(jax.jit(together), stacked, x, repeats=c.repeats)
    rows["networks one after the other, ms"] = f"{1e3 * one:.1f}"
    rows["networks stacked into one call, ms"] = f"{1e3 * two:.1f}"
    rows["gain of stacking"] = f"{one / two:.2f}x"
    return rows


HEAD = """# Cost of the sampler beside its networks

The same program with Gaussian priors instead of networks does everything except the work of the
networks."""


def main(argv: list[str]) -> None:
    """Measure and write the table."""
    c = parse(Config, argv)
    import jax

    from gensep.cli.records import commit
    from gensep.runtime.files import write_atomically

    lines = [f"| {name} | {value} |" for name, value in measure(c).items()]
    page = "\n".join(
        [
            HEAD,
            "",
            "| | |",
            "|---|---|",
            *lines,
            "",
            f"{len(c.priors)} priors, {c.chains} chains of {c.frames} frames; "
            f"{os.cpu_count()} cores, {jax.default_backend()}, commit {commit()}.",
            "",
            "```sh",
            shlex.join(["python", PROG, *argv]),
            "```",
            "",
        ]
    )
    if c.output:
        write_atomically(Path(f"{c.output}.md"), page)
    print(page)


if __name__ == "__main__":
    errors.run(main)
