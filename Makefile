# Two commands do everything: `make run` and `make test`.
# The newest Python that starts and can make environments: a name alone may be left over, or lack what Debian packs apart.
PYTHON ?= $(shell for python in python3.14 python3.13 python3.12 python3.11; do \
	$$python -c "import ensurepip" >/dev/null 2>&1 && echo $$python && break; done)
BIN = .venv/bin
UV = build/uv/bin/uv

.PHONY: run test chaos rolling container bench evaluate screenshots models lint wheel requirements check-requirements audit clean

run: .venv/run
	$(BIN)/python manage.py serve

test: .venv/dev
	$(BIN)/python -m pytest -p tests.support.scheduling -n auto --no-loadscope-reorder $(ARGS)

chaos: .venv/dev
	$(BIN)/python -m tests.tools.chaos $(ARGS)

rolling: .venv/dev
	$(BIN)/python -m tests.tools.rolling $(ARGS)

container: .venv/dev
	$(BIN)/python -m tests.tools.container $(ARGS)

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
ifdef TORCH
# A build of torch that the package index does not have; uv knows PyTorch's own indexes.
INSTALL_TORCH = $(UV) pip install --quiet --no-config --python .venv --only-binary :all: --torch-backend $(TORCH)
.venv/run .venv/dev: | $(UV)
else
INSTALL_TORCH = $(INSTALL)
endif

.venv/run: requirements/run.txt requirements/torch.txt | .venv/bin/pip
	@echo "Installing into .venv; README says how much is downloaded the first time."
	$(INSTALL) --no-deps --require-hashes --requirement requirements/run.txt
	$(INSTALL_TORCH) --requirement requirements/torch.txt
	touch $@

.venv/dev: requirements/dev.txt requirements/torch.txt | .venv/bin/pip
	@echo "Installing into .venv; README says how much is downloaded the first time."
	$(INSTALL) --no-deps --require-hashes --requirement requirements/dev.txt
	$(INSTALL_TORCH) --requirement requirements/torch.txt
	touch .venv/run $@

.venv/bin/pip:
	@test -n "$(PYTHON)" || { echo "No Python from 3.11 to 3.14 with venv was found; set PYTHON to one."; exit 1; }
	$(PYTHON) -m venv .venv

# The wheel, in build/wheel/.
wheel: .venv/dev
	$(BIN)/python -m hatchling build --target wheel --directory build/wheel

# Pin what pyproject.toml asks for, for every platform. `make requirements UPGRADE=--upgrade` takes the newest releases.
LOCK = $(UV) pip compile --quiet $(UPGRADE)
LOCK_PROJECT = $(LOCK) pyproject.toml --constraints requirements/torch.txt

requirements: $(UV)
	$(LOCK_PROJECT) --output-file requirements/run.txt
	$(LOCK_PROJECT) --extra dev --constraints requirements/run.txt --output-file requirements/dev.txt
	$(LOCK_PROJECT) --extra gpu --constraints requirements/run.txt --output-file requirements/gpu.txt
	$(LOCK_PROJECT) --extra observability --constraints requirements/run.txt --output-file requirements/observability.txt
	$(LOCK) --group audit --output-file requirements/audit.txt

# Whether what is pinned has a wheel for each Python on each platform. dev has what run and observability have.
check-requirements: $(UV)
	@set -e; for python in 3.11 3.12 3.13 3.14; do \
	for platform in x86_64-manylinux_2_28 aarch64-manylinux_2_28 aarch64-apple-darwin; do \
		for name in dev gpu audit; do \
			MACOSX_DEPLOYMENT_TARGET=14.0 $(UV) pip install --quiet --no-config --dry-run --target build/none --no-deps \
				--only-binary :all: --python-version $$python --python-platform $$platform \
				--requirement requirements/$$name.txt --requirement requirements/torch.txt; \
		done; \
		echo "Python $$python, $$platform: wheels of everything"; \
	done; done

$(UV):
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
