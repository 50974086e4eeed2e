# make demo   data, models, three methods, leaderboard and picture (README.md)
# make test   everything that a landing must pass            make test-all   and what takes longer
# make lint   ruff and mypy                                  make bench      speed and memory as ratios
#                                                            make bench-gpu  seconds, kernels and memory on one GPU
# make stress   after make demo, its models put to the test: samples, other wordings, damage, relearning (docs/stress.md)
# make request-demo   a request to be forgotten, to its certificate (docs/request.md)
# make demo-nlp, make demo-cv: the text and the face track    make methods    the table of all methods (docs/results.md)
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
LAUNCH := $(BIN)/accelerate launch --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false
export HF_HUB_DISABLE_PROGRESS_BARS ?= 1

.PHONY: demo stress request-demo test test-all lint methods bench bench-gpu clean

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
ASK := overwrite=false holdout=holdout10_perturbed token_scores=true
LOG := eval_results/eval_log_aggregated.json

# one start for all steps (chain.py); each can be typed alone: accelerate launch mm/finetune.py ...
demo: $(READY)
	$(LAUNCH) chain.py \
	  $(foreach split,full+tofu retain90+tofu,"mm/finetune.py model_family=$(FAMILY) split=$(split)") \
	  $(foreach model,$(BASE) $(GOLD),"mm/eval.py model_family=$(FAMILY) model_path=$(model) $(ASK)") \
	  $(foreach method,$(DEMO_METHODS), \
	    "mm/forget.py model_family=$(FAMILY) forget_loss=$(method) save_dir=$(BASE)/$(method)" \
	    "mm/eval.py model_family=$(FAMILY) model_path=$(BASE)/$(method) $(ASK)") \
	  "aggregate_eval_stat.py retain_result=$(GOLD)/$(LOG) base_result=$(BASE)/$(LOG) \
	    \"ckpt_result='$(BASE)/**/eval_log_aggregated.json'\" method_name=null save_file=leaderboard.json" \
	  "mm/stress.py model_family=$(FAMILY) batch_size=24 text_data_path=null tests=[leak,relearning] relearn.data=[retain] \
	    \"model_path=[$(call STRESSED,$(DEMO_METHODS))]\" save_dir=$(MODELS)/stress_demo"

comma := ,
empty :=
STRESSED = $(subst $(empty) $(empty),$(comma),$(strip $(foreach method,$(1),$(BASE)/$(method))))

# the models of make demo; for the leakage matrix two more, that forgot texts or pictures alone
stress: $(READY)
	$(LAUNCH) chain.py \
	  $(foreach modality,text visual,"mm/forget.py model_family=$(FAMILY) forget_loss=npo modality=$(modality) \
	    save_dir=$(BASE)/npo_$(modality)") \
	  "mm/stress.py model_family=$(FAMILY) batch_size=24 \"model_path=[$(call STRESSED,$(DEMO_METHODS))]\"" \
	  "mm/stress.py model_family=$(FAMILY) batch_size=24 \"model_path=[$(call STRESSED,npo_text npo_visual npo)]\" \
	    tests=[matrix] save_dir=$(MODELS)/stress_modalities"

-include nlp.mk cv.mk

# a request to be forgotten, on the shipped folder data/people: the model that knows them, one without them, the certificate
PEOPLE_MODEL := models/llava-mini/people
HELD := Bianca Zeman,Goran Quiroga,Pavel Jensen,Rosa Abbott
ASKING := Anna Conti,Cyril Garcia,Olga Castro,Simon Santos
request-demo: $(READY)
	$(LAUNCH) chain.py \
	  "mm/finetune.py own_data.path=data/people \"own_data.holdout=[$(HELD)]\" split=full num_epochs=40 batch_size=16 \
	    save_dir=$(PEOPLE_MODEL)" \
	  "forget_request.py data=data/people \"forget=[$(ASKING)]\" \"holdout=[$(HELD)]\" model_path=$(PEOPLE_MODEL) \
	    retrain=true retrain_from=minibench/weights/llava-mini retrain_epochs=40 stress=true"

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

# one 80 GB GPU, at most 10 minutes; its tables belong into docs/performance.md
bench-gpu: $(READY)
	@$(BIN)/python benchmarks/step_profile.py
	$(BIN)/python benchmarks/eval_scoring.py --batch-size 8 32 64 --repeats 1
	$(BIN)/python benchmarks/forget_step.py --methods npo KL --batch-size 4 --repeats 2

clean:
	rm -rf models data/clear-mini data/tofu-mini data/faces-mini data/celebrities-mini leaderboard.*
