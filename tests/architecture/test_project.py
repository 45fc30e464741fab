"""Facts of the project that stand in more than one file agree."""

import re
import tomllib

from gensep.cli.records import __version__
from helpers import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOW = (ROOT / ".github/workflows/tests.yml").read_text()


def test_the_version_is_the_same_everywhere():
    assert PROJECT["version"] == __version__
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_pre_commit_formats_with_the_ruff_of_the_tests():
    (pin,) = [r for r in PROJECT["optional-dependencies"]["test"] if r.startswith("ruff")]
    (rev,) = re.findall(
        r"ruff-pre-commit\n\s+rev: v(\S+)", (ROOT / ".pre-commit-config.yaml").read_text()
    )
    assert pin == f"ruff=={rev}"


def test_the_workflow_tests_every_python_that_is_claimed():
    claimed = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    (matrix,) = re.findall(r"python: \[(.*)\]", WORKFLOW)
    assert re.findall(r'"(.*?)"', matrix) == claimed
    assert PROJECT["requires-python"] == f">={claimed[0]}"


def test_the_workflow_runs_the_first_command_of_the_readme():
    first = re.search(r"```sh\n(.*?)\n```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert f"- run: {first[1]}\n" in WORKFLOW


def test_every_dependency_has_a_lower_bound():
    assert not [r for r in PROJECT["dependencies"] if ">=" not in r]


def test_packages_carry_their_types():
    assert all(
        (ROOT / name / "py.typed").exists() for name in ("gensep", "basis", "score", "flows")
    )
