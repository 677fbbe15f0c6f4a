# make demo    set up and run a whole rollback on this machine        make test    set up and run every test
# make quick   the tests that take no time     make lint    linters, types     make bench    the figures of benchmarks/
# make crash   17,500 kills, and their figures                         make mutants  planted faults, and what catches them
# make docs    write the reference pages       make pins    note the versions of today        make clean   remove what the others made
# make power   power cuts and failing disks, with more images than `make test` and every error at every operation
# make sharing kills on PostgreSQL, kills of the database itself, schedules of several machines, and every boundary of the demo
#
# Needs Python 3.11 or newer (`make PYTHON=/path/to/python3` picks one) and a package index that pip can reach.

PYTHON ?= python3
WORKERS ?= 3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint requirements/test.txt --editable
TESTS := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# Where bytecode is not kept, each of the hundreds of processes that the tests start compiles the whole engine anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test quick crash sharing power mutants lint bench docs pins clean

demo: .venv/ready
	$(BIN)/engine demo

test: .venv/ready-to-test
	$(TESTS)

quick: .venv/ready-to-test
	$(TESTS) -m "not slow and not real"

power: .venv/ready-to-test
	LASTGOOD_POWER_IMAGES=25000 LASTGOOD_POWER_FAULTS=all $(TESTS) -rP tests/power

crash: .venv/ready-to-test
	$(BIN)/python -m tests.crash --workers $(WORKERS)

sharing: .venv/ready-to-test
	LASTGOOD_POSTGRES_POINTS=1000 LASTGOOD_SCHEDULES=500 LASTGOOD_DATABASE_KILLS=100 LASTGOOD_BOUNDARIES=all $(TESTS) -rP \
		tests/crash/test_postgres.py tests/crash/test_demo.py tests/engine/test_schedules.py tests/test_database_dies.py

mutants: .venv/ready-to-test
	$(BIN)/python -m tests.mutants --workers $(WORKERS)

lint: .venv/ready-to-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: .venv/ready-to-test
	$(BIN)/python -m benchmarks $(WRITE)
	$(BIN)/python -m benchmarks.scale $(WRITE)

docs: .venv/ready-to-test
	$(BIN)/python -m docs

pins: .venv/ready-to-test
	{ sed '/^[^#]/d' requirements/test.txt; $(BIN)/python -m pip freeze --exclude-editable | sort -f; } > .venv/pins
	mv .venv/pins requirements/test.txt

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis demo
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/ready: pyproject.toml requirements/test.txt | .venv/bin/pip
	@echo "setting up, once"
	$(INSTALL) .
	touch $@

.venv/ready-to-test: pyproject.toml requirements/test.txt | .venv/bin/pip
	@echo "setting up the test environment, once: a minute or two"
	$(INSTALL) ".[test]"
	touch .venv/ready $@

.venv/bin/pip:
	.ci/venv $(PYTHON)
