# Two commands do everything: `make run` and `make test`.
PYTHON ?= python3.11
BIN = .venv/bin

.PHONY: run test chaos bench evaluate screenshots models lint requirements audit clean

run: .venv/run
	$(BIN)/python manage.py serve

test: .venv/dev
	$(BIN)/python -m pytest -p tests.support.scheduling -n auto --no-loadscope-reorder $(ARGS)

chaos: .venv/dev
	$(BIN)/python -m tests.tools.chaos $(ARGS)

bench: .venv/dev
	$(BIN)/python -m tests.tools.bench $(ARGS)

# What the bundled models' cards say of them, measured again: half an hour on two cores with AMX, more than an hour without.
evaluate: .venv/dev
	$(BIN)/python -m training.photos
	$(BIN)/python -m training.evaluate generation/engine/bundled/tiny-edit $(ARGS)
	$(BIN)/python -m training.emoji
	$(BIN)/python -m training.patches
	rm -f build/training/classifier.pt
	$(BIN)/python -m training.classifier generation/engine/bundled/tiny-redraw --minutes 12

screenshots: .venv/dev
	$(BIN)/python -m tests.tools.screenshots

# The tables of families in docs/models.md, to paste there.
models: .venv/dev
	@$(BIN)/python -m tests.tools.models

lint: .venv/dev
	$(BIN)/ruff format . && $(BIN)/ruff check --fix . && $(BIN)/mypy && $(BIN)/lint-imports

# Installed once, and again whenever what is pinned has changed: wheels alone, each with a hash, but for torch.
INSTALL = $(BIN)/pip install --quiet --only-binary :all:

.venv/run: requirements/run.txt requirements/torch.txt | .venv/bin/pip
	@echo "Installing into .venv; the first time this takes a minute or two."
	$(INSTALL) --no-deps --require-hashes --requirement requirements/run.txt
	$(INSTALL) --requirement requirements/torch.txt
	touch $@

.venv/dev: requirements/dev.txt requirements/torch.txt | .venv/bin/pip
	@echo "Installing into .venv; the first time this takes a minute or two."
	$(INSTALL) --no-deps --require-hashes --requirement requirements/dev.txt
	$(INSTALL) --requirement requirements/torch.txt
	touch .venv/run $@

.venv/bin/pip:
	$(PYTHON) -m venv .venv

# Pin what pyproject.toml asks for, for every platform. `make requirements UPGRADE=--upgrade` takes the newest releases.
LOCK = build/uv/bin/uv pip compile --quiet $(UPGRADE)
LOCK_PROJECT = $(LOCK) pyproject.toml --constraints requirements/torch.txt

requirements: build/uv/bin/uv
	$(LOCK_PROJECT) --output-file requirements/run.txt
	$(LOCK_PROJECT) --extra dev --constraints requirements/run.txt --output-file requirements/dev.txt
	$(LOCK_PROJECT) --extra gpu --constraints requirements/run.txt --output-file requirements/gpu.txt
	$(LOCK) --group audit --output-file requirements/audit.txt

build/uv/bin/uv:
	$(PYTHON) -m venv build/uv
	build/uv/bin/pip install --quiet uv==0.13.9

# What is installed, as a CycloneDX bill of materials in build/sbom.json, and which of it has known vulnerabilities.
audit: build/audit/done
	build/audit/bin/cyclonedx-py requirements requirements/run.txt --output-reproducible --output-file build/sbom.json
	build/audit/bin/pip-audit --disable-pip --no-deps --progress-spinner off --requirement requirements/run.txt

build/audit/done: requirements/audit.txt
	$(PYTHON) -m venv --clear build/audit
	build/audit/bin/pip install --quiet --only-binary :all: --no-deps --require-hashes --requirement $<
	touch $@

clean:
	rm -rf .venv build
