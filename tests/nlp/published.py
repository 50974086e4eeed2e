"""The published config files of the text track, key for key (facts of the interface)."""

from typing import Any

FINETUNE: dict[str, Any] = {
    "model_family": "llama2-7b",
    "LoRA": {"r": 8, "alpha": 32, "dropout": 0.0},
    "data_path": "locuslab/TOFU",
    "split": "full",
    "batch_size": 128,
    "gradient_accumulation_steps": 1,
    "num_epochs": 5,
    "lr": 1e-5,
    "weight_decay": 0.01,
    "seed": 42,
    "save_dir": "models/${model_family}/ft_${split}_epoch${num_epochs}_lr${lr}__wd${weight_decay}_lora",
}

FORGET: dict[str, Any] = {
    "model_family": "llama2-7b",
    "model_path": "models/llama2-7b/ft_full_epoch5_lr1e-05__wd0.01_lora",
    "LoRA": {"r": 8, "alpha": 32, "dropout": 0.0},
    "lr": 1e-5,
    "split": "forget10",
    "data_path": "locuslab/TOFU",
    "batch_size": 4,
    "gradient_accumulation_steps": 2,
    "num_epochs": 5,
    "forget_loss": "RMU",
    "loss_beta": 1.0,
    "l1_lambda": 0.0,
    "l0_lambda": 0.0,
    "save_dir": "${model_path}/${forget_loss}_beta${loss_beta}_lr${lr}_${num_epochs}_L1${l1_lambda}_L0${l0_lambda}",
    "overwrite_dir": True,
    "weight_decay": 0.01,
    "eval_while_train": False,
    "save_ckpts": False,
    "save_model": True,
    "seed": 42,
}

EVAL: dict[str, Any] = {
    "model_path": "models/llama2-7b/RMU", "model_family": "llama2-7b", "save_dir": "${model_path}/eval_results/",
    "data_path": ["locuslab/TOFU"] * 4, "split": "forget10_perturbed",
    "split_list": ["retain_perturbed", "real_authors_perturbed", "world_facts_perturbed", "${split}"],
    "question_key": ["question"] * 4, "answer_key": ["answer"] * 4,
    "eval_task": ["eval_log", "eval_real_author_wo_options", "eval_real_world_wo_options", "eval_log_forget"],
    "base_answer_key": ["paraphrased_answer", "answer", "answer", "paraphrased_answer"],
    "perturbed_answer_key": ["perturbed_answer"] * 4, "generation": {"max_length": 200, "max_new_tokens": 200},
    "max_length": 1024, "save_generated_text": True, "ds_size": 300, "overwrite": True, "use_pretrained": False,
    "batch_size": 32, "reinitialize_weights": False, "retain_result": None,
}  # fmt: skip
