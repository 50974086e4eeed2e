# make demo-nlp   the text track: data, base, gold, four methods, leaderboard and picture; a second call resumes
NLP_BASE := models/llama-mini/ft_full
NLP_GOLD := models/llama-mini/ft_retain90
NLP_BOARD := models/llama-mini/leaderboard.json
NLP_METHODS := grad_diff npo idk LLMU

.PHONY: demo-nlp
demo-nlp: $(READY)
	@start=$$SECONDS; set -e; \
	step() { echo; echo "[$$((SECONDS - start)) s] $$*"; }; \
	step "finetune base on full, gold on retain90"; \
	for split in full retain90; do $(LAUNCH) nlp/finetune.py split=$$split; done; \
	step "evaluate base and gold"; \
	for model in $(NLP_BASE) $(NLP_GOLD); do $(LAUNCH) nlp/eval.py model_path=$$model overwrite=false; done; \
	for method in $(NLP_METHODS); do \
	  step "forget with $$method and evaluate"; \
	  $(LAUNCH) nlp/forget.py forget_loss=$$method save_dir=$(NLP_BASE)/$$method; \
	  $(LAUNCH) nlp/eval.py model_path=$(NLP_BASE)/$$method overwrite=false; \
	done; \
	step "leaderboard"; \
	$(BIN)/python aggregate_eval_stat.py retain_result=$(NLP_GOLD)/eval_results/eval_log_aggregated.json \
	  base_result=$(NLP_BASE)/eval_results/eval_log_aggregated.json \
	  "ckpt_result='$(NLP_BASE)/**/eval_log_aggregated.json'" method_name=null save_file=$(NLP_BOARD) markdown=true; \
	step "done"
