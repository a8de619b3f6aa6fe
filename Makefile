# The targets that people need; `make help` lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DATA   ?= data
FAMILIES := celeba-vae celeba-ae lfw-vae lfw-ae fer-vae fer-ae
EXPRESSION_PRESETS := fer-guide-a fer-guide-b fer-judge fer-aligner fer-expressions
MESH_PRESETS := ict-mesh ict-mesh-sage

export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: demo studio test check install peers triton protos format train bench docs release help

demo: $(VENV)/serve.stamp  ## Serve the bundled models and draw faces into out/ (PHOTO=me.jpg for your own)
	@clients/demo.sh $(PHOTO)

studio: $(VENV)/web.stamp  ## The page to play with, in your browser: faces, and expressions on a selfie
	@clients/studio.sh

test: install triton check  ## Set up everything, then check it

check:  ## Style, types, contracts and tests, without the set-up
	ruff format --check --quiet .
	ruff check --quiet .
	buf lint protos
	buf format --diff --exit-code protos
	python protos/generate.py --check
	mypy
	lint-imports
	pytest --numprocesses auto --dist loadfile

install: $(VENV)/dev.stamp  ## Editable install with every extra (PyTorch too)

peers: $(VENV)-triton/peer.stamp $(VENV)-mlserver/peer.stamp $(VENV)-pythae/peer.stamp  ## What we are raced against: NVIDIA Triton, MLServer, pythae

triton: install
	@$(MAKE) --no-print-directory $(VENV)-triton/peer.stamp || echo 'no Triton here: its tests are skipped' >&2

protos: install  ## Regenerate the Python code of the protos
	buf format --write protos
	python protos/generate.py

format: install  ## Mend the style of every file
	ruff check --fix --quiet . || true
	ruff format .

train: install  ## Train, evaluate and export the bundled models from DATA (hours on a CPU)
	for family in $(FAMILIES); do \
		for preset in $$family $$family-sharp; do \
			[ -f runs/$$preset/model.safetensors ] || facegen train $$preset --data $(DATA) || exit 1; \
		done; \
		facegen fit runs/$$family-sharp --data $(DATA) || exit 1; \
		facegen evaluate runs/$$family-sharp --data $(DATA) || exit 1; \
		facegen export runs/$$family-sharp --to models --family $$family --data $(DATA) || exit 1; \
	done
	for preset in $(EXPRESSION_PRESETS); do \
		[ -f runs/$$preset/model.safetensors ] || facegen train $$preset --data $(DATA) || exit 1; \
	done
	facegen evaluate expression runs/fer-expressions --judge runs/fer-judge --data $(DATA)
	facegen export runs/fer-expressions --to models --aligner runs/fer-aligner --data $(DATA)
	for preset in $(MESH_PRESETS); do \
		[ -f runs/$$preset/model.safetensors ] || facegen train $$preset --data $(DATA) || exit 1; \
		facegen evaluate mesh runs/$$preset --data $(DATA) || exit 1; \
	done
	facegen export runs/ict-mesh --to models --data $(DATA)

bench: install peers  ## The serving race: ONNX Runtime alone, facegen, Triton, MLServer (minutes)
	python -m benchmarks.serving

docs: install  ## The documentation as a site, in site/
	mkdocs build --strict

release: install  ## Wheel, sdist, models, SBOMs, licences and hashes in dist/; KEY=~/.ssh/id_ed25519 signs
	python -m deploy.release $(if $(KEY),--key $(KEY))

help:  ## This list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

# uv installs in a third of pip's time and shares its cache between environments.
$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "facegen needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(VENV)/%.stamp: EXTRAS = $*
$(VENV)/web.stamp: EXTRAS = serve,web
$(VENV)/%.stamp: pyproject.toml | $(BIN)/uv
	uv pip install --quiet --python $(BIN)/python --editable '.[$(EXTRAS)]'
	touch $@

# Peers want other versions of our dependencies: each has an environment of its own.
$(VENV)-triton/peer.stamp: PEER := nvidia-pytriton==0.7.0 onnxruntime 'numpy<2'
$(VENV)-mlserver/peer.stamp: PEER := mlserver==1.7.1 onnxruntime
$(VENV)-pythae/peer.stamp: PEER := pythae==0.1.2 torchvision
$(VENV)-%/peer.stamp: | $(BIN)/uv
	uv venv --quiet --allow-existing --python $(BIN)/python $(VENV)-$*
	uv pip install --quiet --python $(VENV)-$*/bin/python $(PEER)
	touch $@
