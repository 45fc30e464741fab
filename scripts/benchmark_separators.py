"""Time a training step of the convolutional separators beside PyTorch modules of the same layers.

Each framework runs in its own process, and they take turns, so that both meet the same load. A step
is the forward pass, the sum of squared errors, the gradient and an update by Adam. PyTorch may be
installed in another environment: name its interpreter with --torch_python. Write OUTPUT.md and the
raw rows as JSON.
"""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the benchmark."""

    networks: tuple[str, ...] = ()
    """Rows of the table of networks that are measured; all of CASES by default."""
    repeats: int = 5
    """Turns of each framework; the medians count."""
    steps: int = 3
    """Steps of a turn."""
    threads: int = 2
    """Threads of PyTorch; those of JAX are the cores that the process may use."""
    torch_python: str = sys.executable
    """Interpreter that can import PyTorch."""
    output: str | None = None
    """Path without ending for the .md and .json."""
    work: str = ""
    """Internal: framework and network of one process, FRAMEWORK:NETWORK."""


# network -> (batch, options); that of Bach10 at a width that trains on a CPU
CASES: dict[str, tuple[int, dict[str, int]]] = {
    "deepconvsep": (32, {}),
    "deepconvsep_ild": (32, {}),
    "deepconvsep_ikala": (4, {}),
    "deepconvsep_bach10": (8, {"filters": 10, "hidden": 64}),
    "deepconvsep_scored": (8, {"filters": 10, "hidden": 64}),
    "deepconvsep_1x1": (4, {"filters": 100}),
    "stereo_convsep": (32, {}),
    "vocal_denoiser": (8, {}),
}
FRAMES = 30
# bins, planes, sources, channels, options with their defaults
SHAPES: dict[str, tuple[int, int, int, int, dict[str, int]]] = {
    "deepconvsep": (513, 1, 4, 1, {"filters": 50, "hidden": 128}),
    "deepconvsep_ild": (513, 2, 4, 2, {"filters": 50, "hidden": 256}),
    "deepconvsep_ikala": (513, 1, 2, 1, {"filters": 30, "hidden": 256}),
    "deepconvsep_bach10": (2049, 1, 4, 1, {"filters": 30, "hidden": 256}),
    "deepconvsep_scored": (2049, 4, 4, 1, {"filters": 30, "hidden": 256}),
    "deepconvsep_1x1": (2049, 4, 4, 1, {"filters": 200}),
    "stereo_convsep": (513, 2, 4, 2, {"filters": 50, "hidden": 128}),
    "vocal_denoiser": (513, 2, 1, 2, {}),
}


def data(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return random mixtures and sources."""
    bins, planes, sources, channels, _ = SHAPES[name]
    rng, batch = np.random.default_rng(0), CASES[name][0]
    mixture = rng.exponential(size=(batch, planes, FRAMES, bins)).astype(np.float32)
    shape = (batch, sources, channels, FRAMES, bins)
    return mixture, rng.exponential(size=shape).astype(np.float32)


def in_jax(name: str) -> tuple[Callable[[], Any], int]:
    """Return a step, and the number of parameters."""
    import jax
    import optax
    from flax import nnx

    from gensep.separators.networks import make_separator, settings_of

    settings = settings_of(name, **CASES[name][1])
    graph, params, rest = nnx.split(jax.jit(lambda: make_separator(settings))(), nnx.Param, ...)
    mixture, sources = (jax.numpy.asarray(x) for x in data(name))
    optimiser = optax.adam(1e-3)

    def loss(params: Any, mixture: jax.Array, sources: jax.Array) -> jax.Array:
        return ((nnx.merge(graph, params, rest)(mixture) - sources) ** 2).sum()

    def update(params: Any, state: Any, mixture: jax.Array, sources: jax.Array) -> Any:
        change, state = optimiser.update(jax.grad(loss)(params, mixture, sources), state)
        return optax.apply_updates(params, change), state

    compiled = jax.jit(update, donate_argnums=(0, 1))
    now = [params, optimiser.init(params)]

    def step() -> None:
        now[:] = jax.block_until_ready(compiled(*now, mixture, sources))

    return step, sum(x.size for x in jax.tree.leaves(params))


def in_torch(name: str, threads: int) -> tuple[Callable[[], Any], int]:
    """Return a step, and the number of parameters."""
    import torch
    from separators_in_torch import make

    torch.set_num_threads(threads)
    bins, planes, sources, _, defaults = SHAPES[name]
    network = make(name, bins, FRAMES, planes, sources, **defaults | CASES[name][1])
    mixture, true = (torch.tensor(x) for x in data(name))
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)

    def step() -> None:
        optimiser.zero_grad()
        ((network(mixture) - true) ** 2).sum().backward()
        optimiser.step()

    return step, sum(p.numel() for p in network.parameters())


def work(framework: str, name: str, c: Config) -> None:
    """Compile, say so, and run as many steps as each line of the input asks for."""
    step, count = in_jax(name) if framework == "jax" else in_torch(name, c.threads)
    start = time.perf_counter(), time.process_time()
    step()
    first = time.perf_counter() - start[0], time.process_time() - start[1]
    step()
    print(json.dumps({"parameters": count, "first": first}), flush=True)
    for line in sys.stdin:
        start = time.perf_counter(), time.process_time()
        for _ in range(int(line)):
            step()
        spent = time.perf_counter() - start[0], time.process_time() - start[1]
        print(json.dumps([x / int(line) for x in spent]), flush=True)


def measure(c: Config, name: str) -> dict[str, Any]:
    """Let the frameworks take turns, and return a row of the table."""
    print(name, file=sys.stderr)
    pythons = {"jax": sys.executable, "torch": c.torch_python}
    workers = {
        framework: subprocess.Popen(
            [python, __file__, "--work", f"{framework}:{name}", "--threads", str(c.threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for framework, python in pythons.items()
    }
    row: dict[str, Any] = {"network": name, "batch": CASES[name][0], "options": CASES[name][1]}
    times: dict[str, list[list[float]]] = {framework: [] for framework in workers}
    try:
        for framework, worker in workers.items():
            row[framework] = json.loads(worker.stdout.readline())  # type: ignore[union-attr]
        for _ in range(c.repeats):
            for framework, worker in workers.items():
                worker.stdin.write(f"{c.steps}\n")  # type: ignore[union-attr]
                worker.stdin.flush()  # type: ignore[union-attr]
                times[framework].append(json.loads(worker.stdout.readline()))  # type: ignore[union-attr]
    finally:
        for worker in workers.values():
            worker.stdin.close()  # type: ignore[union-attr]
            worker.wait()
    for framework, turns in times.items():
        row[framework] |= {"seconds": [t[0] for t in turns], "cpu_seconds": [t[1] for t in turns]}
    return row


def ratio(row: dict[str, Any], key: str) -> float:
    """Return the median of JAX's time over PyTorch's, turn by turn."""
    return float(np.median(np.divide(row["jax"][key], row["torch"][key])))


def page(rows: list[dict[str, Any]]) -> str:
    """Return the results as markdown."""
    from gensep.evaluation.statistics import markdown

    header = ["network", "batch", "parameters", "step, ms", "PyTorch, ms", "ratio"]
    header += ["ratio of CPU time", "first step with compilation, CPU s"]
    lines = []
    for row in rows:
        name = row["network"] + "".join(f", {k} {v}" for k, v in row["options"].items())
        both = [1e3 * float(np.median(row[side]["seconds"])) for side in ("jax", "torch")]
        line = [name, str(row["batch"]), f"{row['jax']['parameters']:,}"]
        line += [f"{x:.0f}" for x in both]
        line += [f"{ratio(row, key):.2f}" for key in ("seconds", "cpu_seconds")]
        lines.append([*line, f"{row['jax']['first'][1]:.1f}"])
    return markdown(header, lines)


def main(argv: list[str]) -> None:
    """Measure, print the table and write it if asked."""
    if "--work" in argv:  # PyTorch's environment lacks what the options need
        framework, _, name = argv[argv.index("--work") + 1].partition(":")
        work(framework, name, Config(threads=int(argv[argv.index("--threads") + 1])))
        return
    from results import compact, raw_file

    from gensep.cli.config import parse
    from gensep.cli.records import commit, versions
    from gensep.runtime.files import write_atomically

    c = parse(Config, argv)
    rows = [measure(c, name) for name in c.networks or CASES]
    text = page(rows)
    print(text)
    if c.output:
        load = os.getloadavg()[2]
        shown = shlex.join(["python", "scripts/benchmark_separators.py", *argv])
        if c.torch_python != sys.executable:
            shown = shown.replace(c.torch_python, "PYTHON")
        record = {"rows": rows, "cores": os.cpu_count(), "load": load, "commit": commit()}
        intro = (
            "# Speed of training\n\nA training step of each network beside PyTorch modules of the "
            f"same layers, median of {c.repeats} turns of {c.steps} steps, on {os.cpu_count()} "
            f"cores, whose mean load was {load:.0f}: above the number of cores other work ran "
            "beside the measurement, and the ratio of CPU time says more than that of time.\n\n"
        )
        whole = f"{intro}{text}\n\n```sh\n{shown}\n```\n"
        write_atomically(Path(f"{c.output}.md"), whole)
        raw = compact(record | {"versions": versions()})
        write_atomically(raw_file(c.output), raw)


if __name__ == "__main__":
    main(sys.argv[1:])
