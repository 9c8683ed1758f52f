PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed
DEMO := euler_maruyama,ddim,heun,dpmpp_2m,uni_pc,deis,{name: pf_ode, method: rk4},pf_ode
BROWSERS := chromium chromium-browser google-chrome google-chrome-stable

.DEFAULT_GOAL := help
.PHONY: help venv browser demo certify docs site test slow kernels lint format wheel-test clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-12s %s\n", $$1, $$2}'

venv: $(STAMP) ## create .venv and install the project with its development tools

# torch comes first and alone, so that a failed download is seen at once and is not repeated with the rest.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt torch
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	touch $@

browser: ## install Chromium for the tests of the report, where there is neither it nor Chrome
	@found() { for name in $(BROWSERS); do command -v $$name >/dev/null && return; done; return 1; }; \
	found && exit 0; \
	if command -v apt-get >/dev/null; then \
		if [ "$$(id -u)" = 0 ]; then as=; else as="sudo"; fi; \
		$$as apt-get update && $$as apt-get install -y --no-install-recommends chromium fonts-dejavu-core; \
	fi; \
	found || { echo "make browser: none of $(BROWSERS) is on the path and apt-get did not bring one;" \
		"install Chromium or Chrome for the tests of the report" >&2; exit 1; }

demo: $(STAMP) ## compare the solvers by FID on the bundled model: table, plots and image grids in outputs/bench
	@echo "ten solvers at five budgets: some 5 to 10 minutes on two idle cores that compute in bfloat16, several times" \
		"that beside other work or without; Ctrl-C stops it, and the same command goes on"
	$(BIN)/scoresde bench 'solvers=[tuned,auto,$(DEMO)]'
	@echo "and then: . .venv/bin/activate && scoresde --help"

certify: $(STAMP) ## measure every solver's order again: numbers, table and figure in benchmarks/results
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/orders/convergence.py

docs: $(STAMP) ## write docs/solvers.md, docs/grids.md, conf/solver and conf/grid from the code and the certificate
	$(BIN)/python benchmarks/docs/pages.py

site: $(STAMP) ## the documentation as pages with a search, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

lint: $(STAMP) ## ruff and pyright
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

test: lint browser ## lint, types and the fast tests, on two cores with one thread each
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

slow: $(STAMP) ## the tests that take minutes, the installed wheel among them
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m slow

kernels: $(STAMP) ## the numeric tests on other kernels, other Pythons and the lowest versions allowed, at most an hour
	$(BIN)/python -m benchmarks.robustness.kernels --out benchmarks/results/kernels.md

wheel-test: $(STAMP) ## build a wheel, install it into an empty environment and run the commands from another folder
	$(BIN)/python -m pytest -m slow tests/test_house.py

format: $(STAMP) ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove caches and built files; .venv and outputs stay
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
