# Recipes of development, run in an environment with `pip install -e '.[test]'`.

# run tests: all, or what is named, e.g. `just test tests/basis -k mmps`
test *arguments:
    python -m pytest -q -n auto {{arguments}}

# check style, formatting included
lint:
    ruff check .
    ruff format --check .

# check types
types:
    mypy

# check links and named files of the documents, and the index of results
docs:
    python -m pytest -q tests/architecture/test_documents.py

# measure samplers where the posterior is known; rows that are there are kept
bench *arguments:
    python scripts/benchmark_samplers.py {{arguments}}
