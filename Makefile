# Two commands do everything: `make run` and `make test`.
PYTHON ?= python3.11
BIN = .venv/bin

.PHONY: run test chaos bench evaluate screenshots models lint constraints clean

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

# Installed once, and again whenever what is pinned or asked for has changed.
.venv/run: pyproject.toml constraints.txt | .venv/bin/pip
	@echo "Installing into .venv; the first time this takes a minute or two."
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/dev: pyproject.toml constraints.txt | .venv/bin/pip
	@echo "Installing into .venv; the first time this takes a minute or two."
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch .venv/run $@

.venv/bin/pip:
	$(PYTHON) -m venv .venv

# Resolve the ranges of pyproject.toml anew, in an environment of its own.
constraints:
	rm -rf build/resolve && $(PYTHON) -m venv build/resolve
	build/resolve/bin/pip install --quiet '.[dev]'
	build/resolve/bin/pip freeze --exclude dreamsite > constraints.txt
	sed -i 's/+cpu$$//' constraints.txt

clean:
	rm -rf .venv build
