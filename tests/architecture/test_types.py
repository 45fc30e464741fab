"""Signatures say what they take; `Any` is rare."""

import io
import tokenize

from helpers import ROOT

MOST_ANY = 6  # per 1,000 lines of gensep/


def test_any_is_rare():
    files = [path.read_text() for path in (ROOT / "gensep").rglob("*.py")]
    tokens = [t for text in files for t in tokenize.generate_tokens(io.StringIO(text).readline)]
    count = sum(t.type == tokenize.NAME and t.string == "Any" for t in tokens)
    lines = sum(len(text.splitlines()) for text in files)
    assert 1000 * count <= MOST_ANY * lines
