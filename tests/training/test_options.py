"""Options that training commands share: groups, limits, and what is for spectrograms only."""

import dataclasses
import importlib
import tomllib

import pytest

from gensep import train_glow, train_ncsn, train_noisy_glow
from gensep.cli import config
from gensep.cli.completion import commands
from gensep.cli.options import options_of
from gensep.runtime.errors import UserError
from gensep.training.options import Noise, Optimiser, Run, TrainingConfig, Variation
from helpers import ROOT

TRAINED_ON_DATA = [
    module.Config
    for module in (importlib.import_module(f"gensep.{name}") for name in commands())
    if issubclass(module.Config, TrainingConfig)
]

CONFIGS = [p for p in sorted((ROOT / "configs").glob("*.toml")) if "data =" in p.read_text()]


def test_there_are_five_commands_that_train_on_a_data_set():
    assert len(TRAINED_ON_DATA) == 5


@pytest.mark.parametrize("cls", TRAINED_ON_DATA)
@pytest.mark.parametrize("name", ["frames", *(f.name for f in dataclasses.fields(Variation))])
def test_options_of_spectrograms_are_refused_for_images(cls, name):
    value = options_of(cls)[name].default + 1
    given = {"data": "mnist", "run": "r", name: value}
    with pytest.raises(UserError, match=f"^{name} is for spectrograms, but mnist is a set of"):
        config.build(cls, given)
    config.build(cls, given | {"data": "data/spec/mnist"})
    config.build(
        cls, given | {name: options_of(cls)[name].default}
    )  # as config.toml of a run has it


def test_groups_are_those_of_all_training_commands():
    fields = {f.name for group in (Run, Noise, Optimiser) for f in dataclasses.fields(group)}
    for cls in (*TRAINED_ON_DATA, train_noisy_glow.Config):
        assert fields <= set(options_of(cls))
    assert options_of(train_noisy_glow.Config)["steps"].default == 2000
    assert options_of(train_noisy_glow.Config)["rate"].help == options_of(Optimiser)["rate"].help
    assert options_of(train_glow.Config)["warmup"].default == 500
    assert options_of(train_glow.Config)["warmup"].group == "Optimiser"


@pytest.mark.parametrize(
    "name", ["steps", "batch", "validate_every", "valid_windows", "save_every"]
)
@pytest.mark.parametrize("cls", [train_ncsn.Config, train_noisy_glow.Config])
def test_counts_are_at_least_one(cls, name):
    with pytest.raises(UserError, match=f"^{name} must be at least 1, not 0$"):
        config.build(cls, _needed(cls) | {name: 0})


def _needed(cls):
    return {o.name: "x" for o in options_of(cls).values() if o.required}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_configs_fit_their_command(path):
    """The command is the one that the file's name ends with."""
    kind = path.stem.rsplit("_")[-1].rstrip("v12").replace("tuned", "ncsn")
    cls = importlib.import_module(f"gensep.train_{kind}").Config
    config.build(cls, tomllib.loads(path.read_text()))
