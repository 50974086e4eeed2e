# make demo   data, models, three methods, leaderboard and picture: about 5 minutes on 2 cores
# make test   everything that a landing must pass            make test-all   and what takes longer
# make lint   ruff and mypy                                  make bench      speed and memory as ratios
# make demo-nlp, make demo-cv: the text and the face track    make methods    the table of all methods (docs/results.md)
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
LAUNCH := $(BIN)/accelerate launch --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false
export HF_HUB_DISABLE_PROGRESS_BARS ?= 1

.PHONY: demo test test-all lint methods bench clean

$(READY): req.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q "$$(grep '^torch==' req.txt)"
	$(BIN)/pip install -q -r req.txt
	touch $@

FAMILY ?= llava-mini
MODELS := models/$(FAMILY)
BASE := $(MODELS)/ft_full+tofu
GOLD := $(MODELS)/ft_retain90+tofu
DEMO_METHODS := grad_diff KL npo

demo: $(READY)
	@start=$$SECONDS; set -e; \
	step() { echo; echo "[$$((SECONDS - start)) s] $$*"; }; \
	step "finetune base on full+tofu, gold on retain90+tofu"; \
	for split in full+tofu retain90+tofu; do $(LAUNCH) mm/finetune.py model_family=$(FAMILY) split=$$split; done; \
	step "evaluate base and gold"; \
	for model in $(BASE) $(GOLD); do $(LAUNCH) mm/eval.py model_family=$(FAMILY) model_path=$$model overwrite=false; done; \
	for method in $(DEMO_METHODS); do \
	  step "forget with $$method and evaluate"; \
	  $(LAUNCH) mm/forget.py model_family=$(FAMILY) forget_loss=$$method save_dir=$(BASE)/$$method; \
	  $(LAUNCH) mm/eval.py model_family=$(FAMILY) model_path=$(BASE)/$$method overwrite=false; \
	done; \
	step "leaderboard"; \
	$(BIN)/python aggregate_eval_stat.py retain_result=$(GOLD)/eval_results/eval_log_aggregated.json \
	  base_result=$(BASE)/eval_results/eval_log_aggregated.json \
	  "ckpt_result='$(BASE)/**/eval_log_aggregated.json'" method_name=null save_file=leaderboard.json; \
	step "done"

-include nlp.mk cv.mk

test: $(READY)
	$(BIN)/python -m pytest -n 2

test-all: $(READY)
	$(BIN)/python -m pytest -n 2 -m ''

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check -q .
	$(BIN)/mypy

methods: $(READY)
	$(BIN)/python run_exps.py tune=true

bench: $(READY)
	$(BIN)/python benchmarks/eval_scoring.py
	$(BIN)/python benchmarks/forget_step.py

clean:
	rm -rf models data/clear-mini data/tofu-mini data/faces-mini data/celebrities-mini leaderboard.*
