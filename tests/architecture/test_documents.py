"""Links of the documents lead somewhere, and the index of results names every table."""

import json
import re

import pytest

from helpers import ROOT, load

PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
RESULTS = ROOT / "docs/results"
LINK = re.compile(r"\]\(([^()\s]+)\)")
# Files that documents name in code: `basis/mixing.py`; `priors/files.py` is gensep/priors/files.py.
NAMED = re.compile(r"`(\w+/[\w/]+\.(?:py|toml))`")


def missing(text, folder):
    """Return the relative links and the named files of a page that do not exist.

    Words in capitals stand for any name: `scripts/benchmark_NAME.py`.
    """
    links = [t.partition("#")[0] for t in LINK.findall(text) if "://" not in t]
    named = [t for t in NAMED.findall(text) if not re.search("[A-Z]{2}", t)]
    return [t for t in links if not (folder / t).exists()] + [
        t for t in named if not any((root / t).exists() for root in (ROOT, ROOT / "gensep"))
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_and_named_files_exist(page):
    assert not missing(page.read_text(), page.parent)


def test_a_wrong_link_is_noticed():
    text = "[a](docs/nowhere.md#x) [b](README.md) [c](https://x.org) `gensep/none.py`"
    assert missing(text, ROOT) == ["docs/nowhere.md", "gensep/none.py"]


def test_the_index_of_results_names_every_table_and_picture():
    linked = set(LINK.findall((RESULTS / "README.md").read_text()))
    pages = {
        str(p.relative_to(RESULTS)) for p in RESULTS.glob("*/*") if p.suffix in (".md", ".png")
    }
    shown_elsewhere = {"training/flow_latents.png"}  # docs/flows.md
    assert pages - shown_elsewhere == linked


def test_raw_rows_stand_apart_compact_and_belong_to_a_table():
    for path in (RESULTS / "data").rglob("*.json"):
        table = RESULTS / path.relative_to(RESULTS / "data").with_suffix(".md")
        assert table.exists(), path
        assert len(path.read_text().splitlines()) < 500, f"{path} is not compact"
    assert not list(RESULTS.glob("*.json"))


def test_benchmarks_write_tables_of_results_and_their_rows_apart(tmp_path):
    results = load("scripts/results.py")
    assert results.raw_file(RESULTS / "samplers/x") == RESULTS / "data/samplers/x.json"
    assert results.raw_file(tmp_path / "x.y") == tmp_path / "x.y.json"
    record = {"settings": {"a": 1}, "rows": [{"b": [1, 2]}, {"b": []}], "none": []}
    text = results.compact(record)
    assert json.loads(text) == record
    assert len(text.splitlines()) == 8
    with pytest.raises(ValueError, match="JSON"):
        results.compact({"rows": [float("nan")]})
