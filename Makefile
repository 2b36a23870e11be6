# Two commands from nothing: `make demo` and `make test`. They need Python 3.11 or newer, pip and make.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow lint docs clean

demo: .venv/user
	$(BIN)/lum run configs/market.yaml
	@echo "lum and its Python are in .venv. To use them in this shell: source .venv/bin/activate"

test: .venv/installed
	$(BIN)/python -m pytest -n auto -m 'not slow'

test-slow: .venv/installed
	$(BIN)/python -m pytest -n auto -m slow

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/installed
	$(BIN)/mkdocs build --strict
	@echo "site: site/index.html"

# .venv/user: the installation of a user. .venv/installed: also lint, tests, the site and Spark, for developers.
.venv/user: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

.venv/installed: .venv/user
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs,spark,trees,onnx,faiss]'
	touch $@

clean:
	rm -rf .venv build dist site
