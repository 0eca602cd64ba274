# The commands one types daily. `make test AREA=corpora` runs the tests of one folder.
.PHONY: install test all-tests check format docs

AREA ?=

install:  ## into the active virtual environment
	pip install -c constraints.txt -e '.[test]'

test:  ## the default tests, or those of one folder
	pytest tests/$(AREA)

all-tests:  ## the slow ones too
	pytest -m "not gpu"

check:  ## lint and types
	ruff check .
	ruff format --check .
	mypy

format:
	ruff check --fix .
	ruff format .

docs:  ## pages and tables that are made from the code and from docs/results
	undertone list settings --markdown > docs/settings.md
	python -m undertone.tests.upstream.hf.encoder_table > docs/encoders.md
	python benchmarks/tables.py
