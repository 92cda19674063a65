# Everything a developer does here, in fourteen targets. `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help setup up demo test test-slow test-gpu test-page chaos containers lint format bench lock clean

BIN := .venv/bin
READY := .venv/.ready
PAGE := app/static/index.html

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) $(PAGE)  ## create .venv with the locked versions; does nothing when it is current; TORCH=cpu|cu130|default

up: $(READY) $(PAGE)  ## start the service on http://127.0.0.1:8000
	@exec $(BIN)/topwork up $(ARGS)

demo: $(READY)  ## upload, fine-tune, evaluate and predict; DATA=folder-or-zip ARCH=name for your own
	@exec $(BIN)/topwork demo $(if $(DATA),--data '$(DATA)') $(if $(ARCH),--architecture '$(ARCH)') $(ARGS)

test: $(READY)  ## run everything that needs no GPU and no internet; ARGS goes to pytest
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile $(ARGS)

test-slow: $(READY)  ## run the nightly tests: every architecture, large data sets
	$(BIN)/pytest -m slow --timeout 1800 $(ARGS)

test-gpu: $(READY)  ## run the tests that need a CUDA device
	$(BIN)/pytest -m gpu --timeout 1800 $(ARGS)

test-page: $(READY) $(PAGE)  ## drive the page with Chromium; SCREENSHOTS=folder keeps pictures of every screen
	$(BIN)/topwork openapi > web/openapi.json
	cd web && npm run check && npm test
	$(BIN)/pip install --quiet --constraint requirements.lock --editable '.[page]'
	$(BIN)/pytest -m page --timeout 1800 $(ARGS)

chaos: $(READY)  ## kill, starve and confuse every process at seeded points; nothing may be lost
	$(BIN)/pytest -m "chaos or plan" --timeout 1800 $(ARGS)

containers: $(READY)  ## build and start docker-compose.yml for real; root on Debian, touches the firewall
	$(BIN)/pytest -m containers --timeout 3600 $(ARGS)

lint: $(READY)  ## check style, formatting, types and who imports whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)  ## format the code, fix what can be fixed, rewrite what is generated
	$(BIN)/python .ci/client.py
	$(BIN)/python docs/reference.py
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(READY)  ## measure the speed claims; prints machine, n and spread
	@for script in $$(grep -l __main__ bench/*.py); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

lock: $(READY)  ## resolve the newest allowed versions into requirements.lock
	$(BIN)/pip install --dry-run --ignore-installed --quiet --report - ./topwork '.[dev]' | $(BIN)/python .ci/lock.py > .venv/new.lock
	mv .venv/new.lock requirements.lock

clean:  ## remove the environment and every cache, never your data
	rm -rf .venv app/static web/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(PAGE): web/package-lock.json web/index.html web/vite.config.ts $(shell find web/src -type f 2>/dev/null)
	@.ci/page

$(READY): pyproject.toml topwork/pyproject.toml requirements.lock .ci/venv
	.ci/venv .venv
	torch=$$(TORCH='$(TORCH)' .ci/torch .venv) && $(BIN)/pip install --quiet $$torch --constraint requirements.lock --editable ./topwork --editable '.[dev]'
	@touch $@
