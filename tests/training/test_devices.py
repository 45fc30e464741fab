"""Training on several devices and hosts: the numbers of one device, and one process that writes."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from gensep.datasets.spectrograms import write_dataset
from gensep.representation.mel import Representation
from helpers import ROOT

BANDS, STEPS = 4, 5
HASTY = {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
SMALL = Representation(sample_rate=8000, n_fft=256, hop_length=128, n_mels=BANDS, fmax=4000.0)

# Trains the commands of argv[1] (JSON) on 8 devices and on 1, and prints all training losses, the
# least and largest validation loss, the shardings of the state and the number of compilations.
COMPARED = """
import json, sys
import jax
from gensep import train_glow, train_ncsn
from gensep.runtime import devices
from gensep.training import loop
from gensep.training.run_folder import read_metrics
from gensep.training.updates import ModelTask
from pathlib import Path

update, told = ModelTask.update, {}

def spied(self, key, state, batch):
    assert {len(x.sharding.device_set) for x in jax.tree.leaves((state, batch))} == {number}
    assert all(x.is_fully_replicated for x in jax.tree.leaves(state))
    rows = [x for x in jax.tree.leaves(batch) if x.ndim]
    assert all(x.addressable_data(0).shape[0] == len(x) // number for x in rows)
    state, row = update(self, key, state, batch)
    losses.append({name: float(value) for name, value in row.items()})
    compiled.add(self._update._cache_size())
    return state, row

ModelTask.update = spied
ModelTask.finish = lambda self, folder: None
for command, argv in json.loads(sys.argv[1]).items():
    for number in (1, 8):
        losses, compiled = [], set()
        loop.all_devices = lambda: devices.over(jax.devices()[:number])
        {"ncsn": train_ncsn, "glow": train_glow}[command].main([*argv[:-1], f"{argv[-1]}{number}"])
        valid = [r["valid_loss"] for r in read_metrics(Path(f"{argv[-1]}{number}"))]
        told[f"{command} {number}"] = {"losses": losses, "valid": valid, "compiled": list(compiled)}
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("devices"), np.random.default_rng(0)

    def tracks(n):
        for i in range(n):
            walk = rng.normal(size=(200, BANDS)).cumsum(0) * 80 - 1000
            yield f"track{i}", walk.clip(-6000, 2000).astype(np.int16)

    write_dataset(folder / "data", {"train": tracks(4), "valid": tracks(2)}, SMALL)
    return folder


def python(code, *argv, devices=8):
    """Run code in a process of its own with so many simulated devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return subprocess.Popen(
        [sys.executable, "-c", code, *argv],
        cwd=ROOT,
        env={**os.environ, **HASTY, "XLA_FLAGS": flags, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(process):
    out, err = process.communicate()
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def arguments(folder, run, *more):
    common = "--batch 16 --frames 16 --levels 2 --valid_windows 8 --validate_every 5 --warmup 2"
    names = ["--data", str(folder / "data"), "--steps", str(STEPS), *common.split()]
    return [*names, *more, "--run", str(folder / run)]


def test_eight_devices_give_the_losses_of_one(folder):
    glow = "--width 8 --embedding 8 --scales 1 --depth 2 --denoising 0".split()
    commands = {
        "ncsn": arguments(folder, "ncsn", *"--width 16 --blocks 1".split()),
        "glow": arguments(folder, "glow", *glow),
    }
    told = output(python(COMPARED, json.dumps(commands)))
    for command in commands:
        one, eight = told[f"{command} 1"], told[f"{command} 8"]
        assert one["compiled"] == eight["compiled"] == [1]
        assert len(one["losses"]) == STEPS
        for a, b in zip(one["losses"], eight["losses"], strict=True):
            assert a.keys() == b.keys()
            np.testing.assert_allclose(list(b.values()), list(a.values()), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(eight["valid"], one["valid"], rtol=1e-5)
        losses = [row["loss"] for row in one["losses"]]
        assert len(set(losses)) == STEPS


# One of two processes, with two devices each: a job on two hosts. Both print the batch rows that
# they made and the losses.
HOST = """
import dataclasses, json, sys
import jax
host, port, run = int(sys.argv[1]), sys.argv[2], sys.argv[3]
if port != "0":
    jax.distributed.initialize(f"localhost:{port}", 2, host)
import jax.numpy as jnp
import numpy as np
from gensep.runtime.errors import UserError
from gensep.training.contract import Validation
from gensep.training.loop import train
from gensep.training.options import TrainingConfig
from gensep.training.updates import ModelTask

class Toy(ModelTask):
    loss_name, made, losses = "loss", [], []

    def batch(self, step, rows):
        x = np.random.default_rng(step).normal(size=(self.c.batch, 3)).astype(np.float32)[rows]
        self.made.append(len(x))
        return x, np.float32(step)

    def make_model(self, key):
        return {"w": jax.random.normal(key, (3,))}

    def loss(self, model, key, batch):
        x, step = batch
        noise = jax.random.normal(key, x.shape)
        return ((x + noise - jnp.expand_dims(model["w"], 0)) ** 2).mean() + step

    def update(self, key, state, batch):
        state, row = super().update(key, state, batch)
        self.losses.append(float(row["loss"]))
        return state, row

    def validate(self, state):  # as if the hosts did not agree
        return Validation(float(jnp.abs(state.learner.average["w"]).sum()) + host, {"host": host})

    def finish(self, folder):
        (folder / f"finished{host}").touch()

for minutes in (1e-9, 0):  # one update, then the rest
    c = TrainingConfig(data="", run=run, batch=8, steps=8, validate_every=2, save_every=2,
                       max_minutes=minutes)
    state = train(c, Toy(c))
told = {"made": Toy.made, "losses": Toy.losses, "best": float(state.best),
        "w": np.asarray(state.learner.model["w"]).tolist()}
try:
    train(dataclasses.replace(c, batch=6, run=run + "-refused"), Toy(c))
except UserError as error:
    told["refused"] = str(error)
print(json.dumps(told))
"""


def test_two_hosts_train_as_one_and_the_first_writes(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    hosts = [python(HOST, str(h), port, str(tmp_path / f"host{h}"), devices=2) for h in (0, 1)]
    alone = output(python(HOST, "0", "0", str(tmp_path / "alone"), devices=4))
    first, second = (output(host) for host in hosts)
    assert set(alone["made"]) == {8}
    assert set(first["made"]) == set(second["made"]) == {4}
    message = "4 devices share every batch, so --batch must be a multiple of 4, not 6; give 8"
    assert {told["refused"] for told in (alone, first, second)} == {message}
    for told in (first, second):
        np.testing.assert_allclose(told["losses"], alone["losses"], rtol=1e-6)
        np.testing.assert_allclose(told["w"], alone["w"], rtol=1e-5)
        assert told["best"] == pytest.approx(alone["best"], rel=1e-6)
    written = {path.name for path in (tmp_path / "host0").iterdir()}
    assert written == {path.name for path in (tmp_path / "alone").iterdir()}
    assert {path.name for path in tmp_path.iterdir()} == {"host0", "alone"}
    rows = [(tmp_path / run / "metrics.jsonl").read_text() for run in ("host0", "alone")]
    assert rows[0].count("\n") == rows[1].count("\n") == 4
    assert '"host": 0' in rows[0]
