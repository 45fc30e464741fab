"""Time Open-Unmix side by side with PyTorch, same weights, and write OUTPUT.md.

Needs PyPI's openunmix. The two take turns; the least time of each is reported, and the processor
seconds of that run, which tell how far other programs disturbed it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gensep.cli.config import parse
from gensep.runtime import errors
from gensep.runtime.errors import UserError

FORM = {"sample_rate": 44100, "nfft": 4096, "nhop": 1024, "nb_channels": 2}
SOURCES = ["vocals", "drums", "bass", "other"]
HEAD = """# Open-Unmix: time beside PyTorch

Four targets, stereo at 44.1 kHz, the sizes of umxhq, equal random weights. Wall-clock and processor
seconds, the least of some runs that took turns."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the benchmark."""

    seconds: float = 20.0
    """Length of the mixture."""
    repeats: int = 4
    """Runs of each side, of which the fastest is reported."""
    niter: tuple[int, ...] = (0, 1)
    """Iterations of EM."""
    threads: int = 2
    """Threads of PyTorch."""
    output: str = "docs/results/separators/open_unmix"
    """Path without ending for the .md."""


def clocked(run: Callable[[], object]) -> tuple[float, float]:
    """Return wall-clock and processor seconds of a run."""
    wall, used = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - used


def side_by_side(runs: dict[str, Callable[[], object]], repeats: int) -> str:
    """Return the cells of a row: the times of both, and their ratio."""
    for run in runs.values():
        run()
    times = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            times[name].append(clocked(run))
    best = {name: min(all_runs) for name, all_runs in times.items()}
    cells = [f"{wall:.2f} ({used:.2f})" for wall, used in best.values()]
    (mine, _), (theirs, _) = best.values()
    return " | ".join([*cells, f"{mine / theirs:.2f}"])


def measure(c: Config) -> list[str]:
    """Return the rows of the table."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import torch
    from convert_open_unmix import network_arrays, network_settings
    from openunmix.model import OpenUnmix, Separator

    from gensep.inversion.em import stems_of
    from gensep.representation.magnitude import Spectra
    from gensep.runtime.model_files import fill
    from gensep.separators.networks import make_separator

    torch.manual_seed(0)
    torch.set_num_threads(c.threads)
    theirs = {name: OpenUnmix(2049, max_bin=1487).eval() for name in SOURCES}
    states = [{k: v.numpy() for k, v in net.state_dict().items()} for net in theirs.values()]
    settings = network_settings(SOURCES, FORM, states)
    like = jax.eval_shape(lambda: make_separator(settings))
    network = fill(like, network_arrays(states))
    form = Spectra(**settings["spectra"])
    samples = int(c.seconds * form.sample_rate)
    wave = 0.1 * np.random.default_rng(0).normal(size=(2, samples)).astype(np.float32)

    apply = jax.jit(lambda network, mixture: network(mixture[None])[0])
    spectrum = jax.block_until_ready(form.magnitudes(jnp.asarray(wave)))
    same = torch.from_numpy(np.array(spectrum).swapaxes(1, 2)[None])

    def networks_of_torch() -> None:
        with torch.no_grad():
            for net in theirs.values():
                net(same.clone())

    def whole(niter: int) -> None:
        mixture = form.transform(jnp.asarray(wave))
        stems = stems_of(apply(network, jnp.abs(mixture)), mixture, iterations=niter)
        np.asarray(form.waves(stems, samples))

    mine = {"gensep": lambda: jax.block_until_ready(apply(network, spectrum))}
    runs = {"networks alone": mine | {"PyTorch": networks_of_torch}}
    for niter in c.niter:
        separator = Separator(theirs, niter=niter)
        separator.freeze()

        def run(separator: Separator = separator) -> None:
            separator(torch.from_numpy(wave[None]))

        name = f"wave to waves, niter {niter}"
        runs[name] = {"gensep": lambda niter=niter: whole(niter), "PyTorch": run}
    rows = []
    for name, pair in runs.items():
        rows.append(f"| {name} | {side_by_side(pair, c.repeats)} |")
        print(rows[-1], flush=True)
    return rows


def main(argv: list[str]) -> None:
    """Measure and write the table."""
    c = parse(Config, argv)
    from gensep.runtime.files import check_writable, write_atomically

    output = Path(f"{c.output}.md")
    check_writable(output.parent)
    try:
        rows = measure(c)
    except ModuleNotFoundError as error:
        raise UserError(
            f"no package {error.name}: the benchmark needs PyTorch and openunmix; run "
            "'pip install openunmix'"
        ) from None
    table = ["| | gensep, s | PyTorch, s | ratio |", "|---|---|---|---|", *rows]
    about = f"{c.seconds:g} s of audio, {c.threads} threads of PyTorch, {c.repeats} runs of each."
    write_atomically(output, "\n".join([HEAD, "", *table, "", about, ""]))
    print(f"wrote {output}")


if __name__ == "__main__":
    errors.run(main)
