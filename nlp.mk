# make demo-nlp   the text track: data, base, gold, four methods, leaderboard and picture; a second call resumes
NLP_BASE := models/llama-mini/ft_full
NLP_GOLD := models/llama-mini/ft_retain90
NLP_BOARD := models/llama-mini/leaderboard.json
NLP_METHODS := grad_diff npo idk LLMU

.PHONY: demo-nlp stress-nlp
demo-nlp: $(READY)
	$(LAUNCH) chain.py \
	  $(foreach split,full retain90,"nlp/finetune.py split=$(split)") \
	  $(foreach model,$(NLP_BASE) $(NLP_GOLD),"nlp/eval.py model_path=$(model) overwrite=false") \
	  $(foreach method,$(NLP_METHODS), \
	    "nlp/forget.py forget_loss=$(method) save_dir=$(NLP_BASE)/$(method)" \
	    "nlp/eval.py model_path=$(NLP_BASE)/$(method) overwrite=false") \
	  "aggregate_eval_stat.py retain_result=$(NLP_GOLD)/$(LOG) base_result=$(NLP_BASE)/$(LOG) \
	    \"ckpt_result='$(NLP_BASE)/**/eval_log_aggregated.json'\" method_name=null save_file=$(NLP_BOARD) markdown=true"

# the models of make demo-nlp put to the test (docs/stress.md)
stress-nlp: $(READY)
	$(LAUNCH) chain.py \
	  "nlp/stress.py \"model_path=[$(subst $(empty) $(empty),$(comma),$(strip $(foreach method,$(NLP_METHODS),$(NLP_BASE)/$(method))))]\""
