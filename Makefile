# make demo      set up .venv and segment toy images with the network that ships
# make serve     set up .venv and serve the page for clicking objects (make serve ARGS=--open)
# make test      set up .venv and run the tests on all cores (make test-all: also the slow ones)
# make test ARGS='-n 0 tests/toy_data'     run only these tests, in one process
# make lint      check the style with ruff
# make docs      build the documentation into site/
# make notebooks run the notebooks in docs/notebooks and save them (make notebooks ARGS=adain)
# make PYTHON=/path/to/python ...  use this Python (run make clean first if .venv exists)

VENV ?= .venv
TEST_TIME = about 10 minutes
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check

# The newest version that MXNet's metadata allows comes first.  3.13 also works, with NumPy 2.1 and
# with MXNet installed without its dependencies.
PYTHON ?= python3.12 python3.11 python3.10 python3.9 python3 python python3.13
SUITABLE = import sys; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 13))

# Recreate .venv if its Python has been removed or upgraded.
ifneq ($(wildcard $(VENV)/made),)
ifneq ($(shell $(VENV)/bin/python -c 'print(1)' 2>/dev/null),1)
$(shell rm -f $(VENV)/made)
endif
endif

.PHONY: setup demo serve test test-all lint docs notebooks clean

setup: $(VENV)/installed

demo: $(VENV)/installed
	$(VENV)/bin/python -m experiments.demo $(ARGS)

serve: $(VENV)/installed-serve
	$(VENV)/bin/adaptis serve $(ARGS)

# One thread per process: two processes with one thread each are faster than one process with two.
# The tests in a file share networks, so they run in the same process.
PYTEST = OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile

test: $(VENV)/installed-dev
	@echo "Running the tests, one process per core: $(TEST_TIME) on two free cores"
	$(PYTEST) -m "not slow" $(ARGS)

test-all: $(VENV)/installed-dev
	@echo "Running all tests, one process per core: takes several times as long as make test"
	$(PYTEST) $(ARGS)

lint: $(VENV)/installed-dev
	$(VENV)/bin/python -m ruff check .

# The variables silence banners about the future of MkDocs (see CONTRIBUTING.md).
docs: $(VENV)/installed-docs
	NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true $(VENV)/bin/python -m mkdocs build --strict --quiet $(ARGS)
	@echo "The documentation is in site/index.html."

notebooks: $(VENV)/installed-docs
	$(VENV)/bin/python -m docs.generate.notebooks $(ARGS)

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/made:
	@for python in $(PYTHON); do \
	    $$python -c '$(SUITABLE)' 2>/dev/null || continue; \
	    found=$$python; \
	    $$python -c 'import venv, ensurepip' 2>/dev/null || continue; \
	    echo "Making $(VENV) with `$$python --version`"; \
	    $$python -m venv --clear $(VENV) && touch $@; exit; \
	done; \
	if [ -n "$$found" ]; then \
	    echo "`$$found --version` is installed without venv: install venv (Debian, Ubuntu: apt-get" \
	        "install python3-venv), or run make PYTHON=/path/to/another/python." >&2; \
	else \
	    echo "AdaptIS needs Python 3.9 to 3.13, but none of these is such a version: $(PYTHON)." \
	        "Install Python 3.12, or run make PYTHON=/path/to/python." >&2; \
	fi; exit 1

# GluonCV would install opencv-python, which needs libGL and overwrites the headless OpenCV.  MXNet's
# metadata excludes the NumPy for Python 3.13 (on other versions, MXNet is already installed here).
$(VENV)/installed: $(VENV)/made requirements.txt setup.py
	@echo "Installing into $(VENV): about 250 MB, a minute or so"
	@$(PIP) install --quiet -r requirements.txt
	@$(PIP) install --quiet --no-deps mxnet==1.9.1 gluoncv==0.10.5.post0
	@$(PIP) install --quiet --no-deps -e .
	@$(VENV)/bin/python -m adaptis.cli doctor --fix
	@touch $@

$(VENV)/installed-serve: $(VENV)/installed
	@$(PIP) install --quiet -e ".[serve]"
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@$(PIP) install --quiet -e ".[dev]"
	@touch $@

$(VENV)/installed-docs: $(VENV)/installed
	@$(PIP) install --quiet -e ".[docs]"
	@touch $@
