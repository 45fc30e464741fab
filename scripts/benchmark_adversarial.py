"""Measure an update of semi-supervised training against the same update in PyTorch.

Both are given the published networks, inputs of 350 by 158 and the same waves and weights of the
separator, and take turns on the same cores. Write OUTPUT.md and its raw rows.
"""

import dataclasses
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results import compact, raw_file

from gensep.cli.config import parse
from gensep.runtime import errors
from gensep.runtime.errors import UserError

if TYPE_CHECKING:
    from gensep.training.adversarial_task import AdversarialTask

PROG = "scripts/benchmark_adversarial.py"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the benchmark."""

    torch: str = sys.executable
    """Python that has PyTorch."""
    batch: int = 16
    """Examples per update."""
    critic_steps: int = 5
    """Updates of the critics per update of the separator."""
    width: int = 16
    """Channels of the first level of the separator."""
    critic_width: int = 32
    """Channels of the first layer of a critic."""
    repeats: int = 5
    """Measured updates on either side."""
    beside: str = "nothing"
    """What else ran on the machine."""
    output: str | None = None
    """Path without ending for the .md."""


def make_task(c: Config) -> "AdversarialTask":
    """Return a task whose waves are noise; excerpts have the 64 frames that critics see."""
    import numpy as np

    from gensep.representation.magnitude import Spectra
    from gensep.separators.networks import settings_of
    from gensep.training.adversarial_task import AdversarialTask
    from gensep.training.options import Adversarial

    @dataclass(frozen=True, kw_only=True)
    class Options(Adversarial):
        loss: str | None = None
        init: str | None = None

    settings = settings_of("unet", width=c.width)
    samples = 62 * 256

    class Waves:
        sources = tuple(settings["sources"])
        spectra = Spectra(**settings["spectra"])

        def noise(self, seed: int, *shape: int) -> np.ndarray:
            noise = np.random.default_rng(seed).normal(size=(*shape, 1, samples))
            return (0.1 * noise).astype(np.float32)

        def batch(self, seed: int, step: int, size: int) -> np.ndarray:
            return self.noise(0, size, 2)

        def inputs(self, key: Any, raw: Any) -> tuple[Any, Any]:
            return self.spectra.magnitudes(raw.sum(1)), self.spectra.magnitudes(raw)

    class Unpaired(Waves):
        def batch(self, seed: int, step: int, size: int) -> dict[str, np.ndarray]:  # type: ignore[override]
            mixtures = self.noise(1, size, c.critic_steps + 1)
            return {"mixtures": mixtures, "solos": self.noise(2, size, c.critic_steps, 2)}

    plain = {"rate": 5e-5, "decay": "constant", "warmup": 0, "clip": 1e9, "ema": 0.0}
    sizes = {"batch": c.batch, "critic_steps": c.critic_steps, "critic_width": c.critic_width}
    options = Options(run="", **plain, **sizes)
    return AdversarialTask(options, Waves(), Unpaired(), settings)  # type: ignore[arg-type]


def hand_over(task: "AdversarialTask", state: Any, batch: Any, path: Path) -> None:
    """Write waves, weights of the separator and options for the other side."""
    import jax
    import numpy as np

    from gensep.separators.unet import padded_size

    weights = {}
    for keys, leaf in jax.tree_util.tree_leaves_with_path(state.learner.model):
        names = [str(getattr(k, "name", getattr(k, "key", getattr(k, "idx", "")))) for k in keys]
        weights["/".join(n for n in names if n not in ("", "value"))] = np.asarray(leaf)
    ends = []
    for size in (task.examples.spectra.bins - 1, 64):
        entering, _ = padded_size(size)
        ends += [(entering - size) // 2, entering - size - (entering - size) // 2]
    c, settings = task.c, task.settings
    spectra = {name: settings["spectra"][name] for name in ("n_fft", "hop_length")}
    options = {"threads": os.cpu_count(), "ends": ends, "sources": 2, **spectra}
    options |= {name: settings[name] for name in ("width", "blocks")}
    names = ("critic_width", "critic_steps", "penalty", "rate", "alpha", "beta")
    options |= {name: getattr(c, name) for name in names}
    waves = dict(zip(batch._fields, batch, strict=True))
    np.savez(path, options=json.dumps(options), **waves, **weights)


def clock(step: Callable[[], Any]) -> float:
    """Return the seconds of one call."""
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def measure(c: Config) -> dict[str, Any]:
    """Return the seconds of updates of both sides, which take turns."""
    import jax

    task = make_task(c)
    state = task.start(jax.random.key(0))
    batch = task.batch(0, slice(None))
    counts = [sum(x.size for x in jax.tree.leaves(part)) for part in state.learner[::3]]
    with tempfile.TemporaryDirectory() as folder:
        hand_over(task, state, batch, Path(folder) / "first.npz")
        command = [c.torch, str(Path(__file__).with_name("adversarial_in_torch.py")), folder]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as other:
            assert other.stdin
            assert other.stdout
            line = other.stdout.readline()
            if not line:
                raise UserError(f"{c.torch} cannot run the PyTorch side; give --torch PYTHON")
            first = json.loads(line)
            row: dict[str, Any] = {}

            def update() -> None:
                nonlocal state
                state, found = task.update(jax.random.key(1), state, batch)
                row.update({name: float(x) for name, x in found.items()})

            compiling = clock(update)
            agree = {name: (row[name], first[name]) for name in ("paired", "unequal")}
            mine, theirs = [], []
            for _ in range(c.repeats):
                mine.append(clock(update))
                other.stdin.write("\n")
                other.stdin.flush()
                theirs.append(float(other.stdout.readline()))
            other.stdin.close()
    counts[1] //= 2
    if counts != list(first["parameters"].values()):
        raise UserError(f"the networks differ: {counts} parameters and {first['parameters']}")
    return {
        "jax": mine,
        "torch": theirs,
        "compiling": compiling,
        "agree": agree,
        "parameters": counts,
        "versions": {"jax": jax.__version__, "torch": first["torch"]},
    }


def page(c: Config, found: dict[str, Any]) -> str:
    """Return the page."""
    from gensep.cli.records import commit
    from gensep.evaluation.statistics import markdown

    mine, theirs = (statistics.median(found[name]) for name in ("jax", "torch"))
    versions, (separator, critic) = found["versions"], found["parameters"]
    lines = [
        (f"gensep, JAX {versions['jax']}", f"{mine:.2f}", f"{min(found['jax']):.2f}"),
        (f"PyTorch {versions['torch']}", f"{theirs:.2f}", f"{min(found['torch']):.2f}"),
        ("ratio", f"{mine / theirs:.2f}", f"{min(found['jax']) / min(found['torch']):.2f}"),
    ]
    terms = "; ".join(f"{k} {a:.6g} and {b:.6g}" for k, (a, b) in found["agree"].items())
    given = {f.name: getattr(c, f.name) for f in dataclasses.fields(c)}
    changed = {k: v for k, v in given.items() if k != "torch" and v != Config.__dict__.get(k)}
    words = " ".join(f"--{k} {shlex.quote(str(v))}" for k, v in changed.items())
    return f"""# An update of semi-supervised training, beside PyTorch

{c.critic_steps} steps of two critics of {critic:,} parameters, then one of a separator of
{separator:,}, on {c.batch} examples of 64 frames, which the separator sees as 350 by 158. Both
sides transform the same waves, start from the same separator, and take turns, one update each.

{markdown(("seconds of an update", "median", "least"), lines)}

{c.repeats} updates each on {os.cpu_count()} cores; beside them ran {c.beside}. The first update,
with compilation, took {found["compiling"]:.0f} s. Terms of the first loss on either side: {terms}.
Commit {commit()}.

```sh
python {PROG} --torch PYTHON {words}
```
"""


def main(argv: list[str]) -> None:
    """Measure and write the page."""
    c = parse(Config, argv)
    found = measure(c)
    text = page(c, found)
    print(text)
    if c.output:
        Path(c.output).parent.mkdir(parents=True, exist_ok=True)
        Path(f"{c.output}.md").write_text(text)
        raw_file(c.output).write_text(compact(found))


if __name__ == "__main__":
    errors.run(main)
