"""What users get wrong, over all scripts, configs and files: an error that names the culprit and the way out, and no
trace.

A row is what is run, what is wrong, and words of the message. `@` is a folder with good data and with all that is
broken (tests/bad_input.py). Each row runs the script itself, in this process, and must leave every file as it was.
"""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.bad_input import BASE, run_script, tree, write_world

MM = {"finetune": ("data_path=@/clear", "split=full+tofu"),
      "forget": (f"model_path={BASE}", "forget_data_path=@/clear", "retain_data_path=@/clear"),
      "eval": (f"model_path={BASE}", "data_path=@/clear", "generation.max_new_tokens=2")}  # fmt: skip
NLP = {
    "finetune": ("data_path=@/tofu", "split=full"),
    "forget": ("model_path=minibench/weights/llama-mini", "data_path=@/tofu"),
    "eval": ("model_path=minibench/weights/llama-mini", "data_path=@/tofu"),
}
GOOD = {
    **{f"mm/{name}": (*words, "save_dir=@/out") for name, words in MM.items()},
    **{f"nlp/{name}": (*words, "save_dir=@/out") for name, words in NLP.items()},
    "aggregate_eval_stat": (
        "retain_result=@/gold/eval_log_aggregated.json",
        "ckpt_result=@/log/eval_log_aggregated.json",
        "save_file=@/new.json",
    ),
    "cv/prepare": ("data_path=@/faces", "save_dir=@/out", "models=4"),
    "cv/pretrain": ("data_path=@/faces", "save_dir=@/out"),
    "cv/finetune": ("splits=@/bad_splits", "save_dir=@/out"),
    "cv/forget": ("splits=@/bad_splits", "save_dir=@/out"),
    "cv/score": (),
    "cv/attack": (),
    "cv/run": ("root=@/out",),
    "run_exps": ("save_dir=@/out",),
}

LOG, CKPT = "/eval_log_aggregated.json", "ckpt_result=@/"
ALIKE = f"retain_result=@/asked_alike{LOG}"

SETTINGS = [
    ("mm/finetune", "batchsize=3", "unknown config key 'batchsize'", "Did you mean 'batch_size'"),
    ("mm/finetune", "LoRA.rank=3", "unknown config key 'LoRA.rank'", "LoRA.r"),
    ("mm/finetune", "+speed=3", "Unknown config key 'speed'"),
    ("mm/finetune", "batch_size=0", "batch_size=0 is too small", "at least 1"),
    (
        "mm/finetune",
        "global_batch_size=12 batch_size=8",
        "global_batch_size=12 cannot be met: batch_size=8 on 1 process(es) makes steps of multiples of 8",
        "Take batch_size=1 or 2 or 3 or 4 or 6 or 12 on 1; or global_batch_size=8 or 16",
    ),
    (
        "mm/forget",
        "global_batch_size=8 batch_size=2 gradient_accumulation_steps=2",
        "gradient_accumulation_steps=2 contradicts global_batch_size=8, which makes it 4 here",
    ),
    ("mm/finetune", "batch_size=2.5", "batch_size=2.5 is not a int"),
    ("mm/finetune", "lr=fast", "lr='fast' is not a float", "correct it on the command line or in the config file"),
    ("mm/finetune", "lr=nan", "lr=nan is not a float"),
    ("mm/finetune", "num_epochs=0", "num_epochs=0 leaves no step to train; raise it"),
    ("mm/finetune", "max_steps=0", "max_steps=0 is too small"),
    ("mm/finetune", "seed=-1", "seed=-1 is too small"),
    ("mm/finetune", "seed=4294967296", "seed=4294967296 is too large; it must be at most 4294967295"),
    ("mm/finetune", "LoRA.dropout=2", "LoRA.dropout=2.0 is too large"),
    ("mm/finetune", "gradient_accumulation_steps=1e30", "gradient_accumulation_steps=", "is too large"),
    ("mm/finetune", "num_epochs=1e12", "num_epochs=1000000000000.0 is too large"),
    ("mm/finetune", "num_workers=-1", "num_workers=-1 is too small"),
    ("nlp/forget", "cudnn_attention=perhaps", "cudnn_attention='perhaps' is not a bool"),
    ("mm/eval", "cudnn_attention=2", "cudnn_attention=2 is not a bool"),
    ("mm/finetune", "num_workers=100000", "num_workers=100000 is too large"),
    ("mm/finetune", "lr=1e30", "lr=1e+30 is too large"),
    ("mm/finetune", "lr=inf", "lr=inf is not a float"),
    ("mm/finetune", "weight_decay=1e9", "weight_decay=1000000000.0 is too large"),
    ("mm/eval", "token_scores=perhaps", "token_scores='perhaps' is not a bool"),
    ("mm/eval", "batch_size=automatic", "batch_size='automatic' is not a int or auto"),
    ("mm/finetune", "batch_size=auto", "batch_size='auto' is not a int"),
    ("nlp/eval", "batch_size=1e15", "batch_size=1000000000000000 is too large"),
    ("cv/pretrain", "seed=4294967296", "seed=4294967296 is too large"),
    ("mm/finetune", "LoRA.r=-1", "LoRA.r=-1 is too small"),
    ("mm/finetune", "LoRA.targets=vision", "LoRA.targets='vision' is not one of language, all"),
    ("mm/finetune", "LoRA=8", "LoRA=8 is not a LoraSettings"),
    ("mm/finetune", "lr_scheduler=cosin", "lr_scheduler='cosin' is not one of linear, cosine"),
    ("mm/finetune", "optim=adamm", "optim='adamm'", "adamw_torch"),
    ("mm/finetune", "precision=fp16", "precision='fp16' is not one of auto, bf16, fp32"),
    ("mm/finetune", "attn_implementation=flash_attention_2", "attn_implementation=flash_attention_2", "take auto"),
    ("mm/finetune", "report_to=wandbb", "report_to='wandbb' is not one of"),
    ("mm/finetune", "vision_features=100000", "only", "GiB of memory are free here; lower it"),
    ("mm/finetune", "gradient_checkpointing=maybe", "gradient_checkpointing='maybe' is not one of false, mlp, true"),
    ("mm/finetune", "model_family=lava", "Unknown model_family 'lava'. Did you mean 'llava'"),
    ("mm/finetune", "+experiment=lava", "lava", "mm/experiment"),
    ("mm/finetune", "max_length=20", "clear/full+tofu/", "max_length"),
    ("mm/forget", "forget_loss=np0", "unknown forget_loss 'np0'; did you mean 'npo'"),
    ("mm/forget", "method_args.npo.betta=1", "unknown config key 'method_args.npo.betta'", "method_args.npo.beta"),
    (
        "mm/forget",
        "forget_loss=npo method_args.npo.beta=-1",
        "method_args.npo: beta must be a finite number > 0, got -1",
    ),
    ("mm/forget", "forget_loss=npo method_args.npo.beta=big", "method_args.npo.beta='big' is not allowed: a number is"),
    ("mm/forget", "forget_loss=npo method_args.npo.retain_loss=kk", "retain_loss='kk' is not allowed: one of ce, KL"),
    ("mm/forget", "+method_args.nppo.beta=1", "unknown method_args 'nppo'; did you mean 'npo'"),
    ("mm/forget", "forget_loss=RMU method_args.RMU.layer=9", "layer=9 is out of range", "0 to 2"),
    ("mm/forget", "forget_loss=idk loss_beta=0.5", "loss_beta=0.5 has no meaning for idk", "null"),
    ("mm/forget", "l0_lambda=0.1", "l0_lambda=0.1", "no gradient"),
    ("mm/forget", "l1_lambda=0.1", "L1 norm from zero needs full finetuning"),
    ("mm/forget", "forget_loss=kvw", "kvw edits the weights of the model itself: set LoRA.r=0"),
    ("nlp/forget", "forget_loss=manu quantization=4bit", "manu edits weights, and quantised ones cannot be"),
    (
        "mm/forget",
        "forget_loss=manu LoRA.r=0 wrap=[sam]",
        "Pruning edits weights and trains nothing to wrap",
    ),
    ("mm/forget", "forget_loss=kvw LoRA.r=0 stop_when=3", "stop_when looks at training, and kvw edits the weights"),
    ("mm/forget", "forget_loss=kvw LoRA.r=0 method_args.kvw.layers=5-2", "layers must be first-last, e.g. 1-25"),
    ("mm/forget", "plugins=[@/gone.py]", "gone.py is no Python file, no folder and no module"),
    ("nlp/eval", "plugins=[no_such_plugin]", "plugins: no_such_plugin is no Python file, no folder and no module"),
    ("run_exps", "plugins=gone.py", "plugins='gone.py' is not a list; write plugins=[gone.py]"),
    ("aggregate_eval_stat", "plugins=[@/gone.py]", "gone.py is no Python file"),
    ("mm/forget", "wrap=[projekt]", "unknown wrap 'projekt'; did you mean 'project'"),
    ("mm/forget", "wrap=[npo]", "wrap=npo: it goes around no other method; those that do are"),
    ("mm/forget", "forget_loss=npo wrap=[project]", "wrap=project: project weighs", "NPO has no retain side"),
    ("nlp/forget", "forget_loss=project wrap=[project]", "Project has a combine already, and a step takes one"),
    ("mm/forget", "wrap=[project] method_args.project.gamma=2", "gamma must be above 0 and at most 1, got 2"),
    ("mm/forget", "wrap=project", "wrap='project' is not a list"),
    ("mm/forget", "modality=sound", "modality='sound' is not one of"),
    ("mm/forget", "modality=text forget_split=full", "modality=text needs a forget_split such as forget10, not 'full'"),
    ("mm/forget", "retain_partner=some", "retain_partner='some' is not one of any, same_modality"),
    ("mm/forget", "epoch_over=both", "epoch_over='both' is not one of forget, retain"),
    (
        "mm/forget",
        "forget_loss=retain_ft stop_when=3",
        "stop_when watches the forget answers, which retain_ft does not train on",
    ),
    ("mm/forget", "retain_split=null", "retain_split"),
    ("mm/forget", "forget_loss=dpo method_args.dpo.reference_path=models/none", "models/none' does not exist"),
    ("mm/forget", "forget_loss=vgid method_args.vgid.alpha=-1", "method_args.vgid: alpha must be a finite number >= 0"),
    ("mm/forget", "forget_loss=jensun method_args.jensun.text=''", "method_args.jensun: text is empty"),
    ("mm/forget", "forget_loss=altpo method_args.altpo.K=0", "method_args.altpo: K must be a finite number >= 1"),
    ("mm/forget", "forget_loss=eco_ft loss_beta=-1", "loss_beta=-1.0 is too small"),
    (
        "mm/forget",
        "forget_loss=pava retain_split=null method_args.pava.questions=@/bank.txt",
        "bank.txt holds 3 different questions; at least 8 are needed",
    ),
    ("mm/forget", "forget_loss=pava method_args.pava.questions=@/no.txt", "no.txt: no such file"),
    ("mm/forget", "forget_loss=pava LoRA.targets=all", "LoRA.targets=all: this method trains the MLPs"),
    ("mm/forget", "forget_loss=npo LoRA.layers=[9]", "LoRA.layers=[9] must name decoder blocks", "0 to 2"),
    ("mm/finetune", "LoRA.layers=[]", "LoRA.layers=[] must name decoder blocks"),
    ("mm/forget", "LoRA.layers=all", "LoRA.layers='all' is not a"),
    ("nlp/forget", "forget_loss=pava", "needs forget rows with a picture (there are 0)"),
    ("mm/eval", "eco={threshold:2}", "eco.threshold=2.0 is too large; it must be at most 1"),
    ("nlp/eval", "eco={corruption:zero}", "eco.corruption='zero' is not one of zero_top_k, zero_first_n"),
    ("nlp/eval", "eco={tresh:1}", "Unknown config key 'eco.tresh'. Did you mean 'eco.threshold'"),
    ("mm/eval", "eco={forget_split:forget11}", "has no split 'forget11'. Did you mean 'forget10'"),
    ("mm/eval", "eco=true", "eco=True is not a EcoSettings or null"),
    ("mm/eval", "ds_size=0", "ds_size=0 is too small"),
    ("mm/eval", "selection=last", "selection='last' is not one of first, random"),
    ("mm/eval", "eval_task_ids=[9]", "eval_task_ids has 9", "5: eval_retain_facerec"),
    ("mm/eval", "images=blurred", "images='blurred' is not one of own, shuffled"),
    ("mm/eval", "quantization=2bit", "quantization='2bit' is not one of"),
    ("mm/eval", "generation.max_new_tokens=0", "generation.max_new_tokens=0 is too small"),
    ("mm/eval", "save_generated_text=false", "save_generated_text=False has no effect here"),
    ("mm/eval", "tasks=[{eval_task:a,spilt:b}]", "Unknown key 'spilt' in a task. Did you mean 'split'"),
    ("mm/eval", "tasks=[{eval_task:a}]", "The task a lacks question, answer"),
    ("mm/eval", "tasks=[]", "no task to evaluate", "tasks"),
    ("mm/eval", "eval_task=[a] split_list=[b]", "The task lists eval_task, split_list need", "question_key"),
    ("mm/eval", "max_length=20", "clear/", "max_length"),
    ("nlp/finetune", "model_family=llava-mini model_path=null data_path=@/clear", "full", "+tofu"),
    (
        "nlp/forget",
        "forget_loss=vgid method_args.vgid.prefix=''",
        "no forget row has a picture and the prefix is empty",
        "method_args.vgid.prefix",
    ),
    ("nlp/forget", "split=full", "split='full' is not a forget split such as forget10; set retain_split"),
    # the published config's keys are keys of the command line, too, and right at their published values
    (
        "nlp/eval",
        "generation.max_length=200 use_pretrained=false save_generated_text=true reinitialize_weights=false "
        "eval_task_ids=[9]",
        "eval_task_ids has 9",
    ),
    ("nlp/eval", "use_pretrained=true", "use_pretrained=True has no effect", "hub id"),
    ("nlp/eval", "save_generated_text=false", "save_generated_text=False has no effect"),
    ("nlp/eval", "reinitialize_weights=true", "reinitialize_weights=True has no effect"),
    ("nlp/eval", "generation.max_length=100", "generation.max_length=100 has no effect here", "max_new_tokens"),
    ("nlp/eval", "eval_task_ids=[4]", "eval_task_ids has 4", "3: eval_log_forget"),
    ("run_exps", "jobbs=3", "unknown config key 'jobbs'", "jobs"),
    ("run_exps", "tune=true trials=0", "trials=0 is too small", "at least 1"),
    (
        "run_exps",
        "tune=true methods=[npo] +grid_more.npoo=[]",
        "unknown method in grid_more 'npoo'",
        "did you mean 'npo'",
    ),
    ("run_exps", "tune=true seeds=[0]", "tune_seed=0 is one of seeds"),
    ("cv/prepare", "models=5 num_enroll=1", "models=5 must be a multiple of 4"),
    ("cv/prepare", "forget=[Nobody] num_enroll=1", "Nobody", "forget"),
    ("cv/prepare", "size=1", "size=1 is too small"),
    ("cv/pretrain", "architecture=resnet-9", "architecture='resnet-9' is not one of resnet-mini, resnet-18"),
    ("cv/forget", "method=scrb", "scrb", "scrub"),
    ("cv/forget", "+options.bet=1 method=scrub", "method_args.scrub 'bet'; did you mean 'beta'"),
    ("cv/forget", "forget_size=7", "forget_size='07' is not one of 10, 05, 01"),
    ("cv/attack", "attack=mia", "attack='mia' is not one of ulira, umia"),
    ("cv/run", "+overrides.scores=[]", "overrides.scores: there is no stage and no method of that name"),
]

FILES = [
    ("mm/finetune", "data_path=@/nothing", "data_path=", "nothing is neither a folder nor a hub id", "minibench.build"),
    ("mm/finetune", "data_path=@/not_a_dataset", "not_a_dataset"),
    ("mm/finetune", "data_path=someone/missing", "someone/missing cannot be read", "hf download someone/missing"),
    ("mm/finetune", "split=full+tof", "clear has no split 'full+tof'. Did you mean 'full+tofu'"),
    ("mm/finetune", "split=empty", "clear, split empty", "empty"),
    ("mm/finetune", "split=no_caption", "split no_caption: no column 'caption'; its columns are image, name"),
    ("mm/finetune", "split=named_only", "split named_only: no column 'question'"),
    ("mm/finetune", "split=broken", "image of row 1 of ", "split broken is broken", "replace or remove it"),
    ("mm/finetune", "split=half", "Row ", "clear/half/1 has neither", "remove or mend it"),
    ("mm/finetune", "split=narrow", "The image of row 1 of ", "1 x 300 pixels is narrower than 200:1"),
    ("mm/finetune", "split=asked", "clear/asked/0 has a text in question but not an answer to go with it"),
    (
        "mm/finetune",
        "data_path=@/own split=lists",
        "own/lists/1: answer is a list, ['She.', 'He.']",
        "one text is wanted",
    ),
    ("mm/finetune", "data_path=@/own split=stored", "own/stored/1: answer is a list stored as text"),
    ("mm/finetune", "data_path=@/own split=numbers", "own/numbers/0: answer is 3, of type int, not a text"),
    (
        "mm/finetune",
        "data_path=@/own split=names",
        "The image of row 0",
        "own/gone.png; file names are relative to the",
    ),
    (
        "mm/finetune",
        "data_path=@/own split=elsewhere",
        "its pictures are in column 'image_path'; call that column image",
    ),
    ("mm/finetune", "data_path=@/own split=several", "The image of row 0", "is a list of 2 pictures"),
    ("mm/finetune", "data_path=@/own split=full", "own has no split 'full'", "It has: elsewhere, lists, "),
    ("mm/finetune", "data_path=@/own/lists.jsonl split=full", "lists.jsonl has no split 'full'. It has: lists"),
    ("mm/finetune", "save_dir=@/file/run", "save_dir=", "file/run cannot be written"),
    ("mm/finetune", "save_dir=''", "save_dir is empty; say where"),
    ("mm/finetune", "save_dir=@/bad_run", "bad_run/run.json is damaged", "remove it or choose another save_dir"),
    ("mm/finetune", "save_dir=@/text_run", "text_run/run.json is no record of a run (it holds a str)", "remove it"),
    ("mm/finetune", "save_dir=@/list_run", "list_run/run.json is no record of a run (it holds a list)"),
    ("mm/finetune", "save_dir=@/odd_run", "odd_run/run.json is no record of a run (status is 3)"),
    ("mm/finetune", "save_dir=@/latin_run", "latin_run/run.json is damaged ("),
    ("mm/finetune", "save_dir=@/no_tokenizer", "no_tokenizer holds a model that no run of this project made"),
    ("mm/eval", "model_path=@/weights_lacking", "weights_lacking lack 9 tensors of the model, e.g. ", ".layers.1."),
    ("mm/forget", "model_path=@/weights_lacking", "weights_lacking lack 9 tensors of the model"),
    (
        "mm/eval",
        "model_path=@/weights_more",
        "weights_more have 9 tensors of blocks that its config.json does not know",
    ),
    ("mm/eval", "model_path=@/weights_nan", "weights_nan holds NaN or infinity", "Make the model again"),
    ("mm/eval", "model_path=@/weights_bin", "weights_bin holds no weights", "only pytorch_model.bin", "can run code"),
    (
        "mm/finetune",
        "model_path=@/weights_gguf",
        "weights_gguf holds no weights",
        "GGUF is quantised for other programs",
    ),
    ("mm/eval", "model_path=@/weights_code", "weights_code", "brings code of its own, which is never run"),
    ("mm/eval", "model_path=@/adapter_self", "adapter_self is an adapter of ", "which is itself"),
    ("mm/eval", "model_path=@/adapter_pickle", "adapter_pickle holds no weights", "only adapter_model.bin"),
    ("mm/finetune", "save_dir=@/other_run", "other_run holds another run", "overwrite_dir=true"),
    (
        "mm/finetune",
        "save_dir=@/cut_run",
        "checkpoint-4 is damaged: optimizer.pt has 4 of 400 bytes",
        "resume_from_checkpoint=false",
    ),
    ("mm/finetune", "save_dir=@/two_run", "checkpoint-4 was made by 2 processes, this run has 1"),
    (
        "mm/finetune",
        "resume_from_checkpoint=@/nothing",
        "nothing is not a checkpoint folder (it has no trainer_state.json)",
    ),
    ("mm/finetune", "model_path=@/nothing", "nothing' does not exist", "Run the step that makes it"),
    ("mm/finetune", "model_path=@/no_model", "no_model", "not a saved model"),
    (
        "mm/finetune",
        "model_path=@/cut",
        "weights in ",
        "cut/model.safetensors cannot be read",
        "copy or make it again",
    ),
    ("mm/finetune", "model_path=@/bad_config", "bad_config/config.json"),
    ("mm/finetune", "model_path=@/no_weights", "no_weights", "safetensors"),
    (
        "nlp/finetune",
        "model_path=@/mamba",
        "mamba is a mamba: it keeps a recurrent state",
        "use a model that only attends",
    ),
    ("nlp/forget", "model_path=@/mamba", "mamba is a mamba: it keeps a recurrent state"),
    ("nlp/eval", "model_path=@/mamba", "mamba is a mamba: it keeps a recurrent state"),
    ("mm/finetune", "model_path=@/no_tokenizer", "no_tokenizer", "tokenizer"),
    ("mm/forget", "save_dir=@/cut model_path=@/cut", "cut is the folder of the model that training starts from"),
    ("mm/forget", "retain_split=full+tofu", "4 rows of forget10+tofu are also in full+tofu", "Choose a retain split"),
    ("mm/forget", "forget_split=forget11", "clear has no split 'forget11'. Did you mean 'forget10'"),
    ("mm/forget", "model_path=@/adapter_gone", "adapter_gone is an adapter of a model that is missing", "models/gone"),
    ("mm/eval", "model_path=@/adapter_other", "adapter_other does not fit the model it names", "Llava", "Qwen2VL"),
    ("mm/eval", "model_path=@/adapter_cut", "adapter_cut cannot be read", "copy or make it again"),
    (
        "mm/eval",
        "model_path=@/adapter_sizes",
        "adapter_sizes does not fit the model it names",
        "size mismatch for",
        "lora_A",
    ),
    ("mm/eval", "model_path=@/adapter_config", "adapter_config/adapter_config.json"),
    ("mm/eval", "split=forget11_perturbed", "no split 'forget11_perturbed'"),
    ("mm/eval", "retain_result=@/nothing.json", "nothing.json"),
    ("mm/eval", "retain_result=@/log_cut/eval_log_aggregated.json", "log_cut/eval_log_aggregated.json"),
    ("mm/eval", "save_dir=@/log overwrite=false", "log holds results of another model", "overwrite=true"),
    ("mm/eval", "save_dir=@/file/run", "file/run cannot be written"),
    ("mm/eval", "processor_path=@/no_tokenizer", "no_tokenizer"),
    ("nlp/finetune", "split=no_answer", "split no_answer: no column 'answer'; its columns are question"),
    (
        "mm/forget",
        "forget_split=forget10 retain_split=retyped",
        "One person of forget10 is also in retyped",
        "PERSON 1 ",
    ),
    ("nlp/finetune", "data_path=@/own split=missing", "Row missing/1 lacks a question or an answer"),
    ("nlp/finetune", "data_path=@/own split=nan", "Row nan/0 lacks a question or an answer"),
    ("nlp/finetune", "data_path=@/own split=numbers", "Row numbers/0: answer is 3, of type int"),
    ("nlp/finetune", "data_path=@/clear split=pictured", "Row 0 of ", "has a picture", "use the mm/ scripts"),
    (
        "nlp/eval",
        "data_path=@/own tasks=[{eval_task:a,split:wrong,base_answer:answer,wrong_answers:perturbed_answer}]",
        "Row 0 of ",
        "own/wrong: no wrong answer, or an empty one, in perturbed_answer, which is None",
    ),
    ("nlp/finetune", "split=half", "Row half/1 lacks a question or an answer"),
    ("nlp/forget", "retain_split=leaky", "1 rows of forget10 are also in leaky"),
    ("aggregate_eval_stat", "retain_result=@/nothing.json", "nothing.json"),
    ("aggregate_eval_stat", f"compare=[@/gold{LOG}]", "takes two different models: [A,B]"),
    ("aggregate_eval_stat", f"compare=@/gold{LOG}", "takes two different models: [A,B]"),
    ("aggregate_eval_stat", f"compare=[@/gold{LOG},npoo]", "'npoo' is no file, and no row of ", "no row"),
    ("aggregate_eval_stat", f"compare=[@/gold{LOG},@/log_rows{LOG}]", "task eval_log_forget: the logs", "same split"),
    ("aggregate_eval_stat", f"compare=[@/gold{LOG},@/log_cut{LOG}]", "log_cut/eval_log_aggregated.json"),
    ("aggregate_eval_stat", f"compare=[@/gold{LOG},@/log{LOG}] margin=0", "margin=0 must lie above 0"),
    (
        "aggregate_eval_stat",
        f"compare=[@/gold{LOG},@/log{LOG}] base_result=@/log_rows{LOG}",
        "task eval_log_forget: the logs",
    ),
    ("aggregate_eval_stat", "ckpt_result=@/no*/log.json", "names no file", "glob"),
    ("aggregate_eval_stat", "ckpt_result=@/log_cut/eval_log_aggregated.json", "log_cut/eval_log_aggregated.json"),
    (
        "aggregate_eval_stat",
        "ckpt_result=@/log_nan/eval_log_aggregated.json",
        "log_nan",
        "task eval_log, row 3: avg_gt_loss is None",
    ),
    (
        "aggregate_eval_stat",
        "ckpt_result=@/log_no_key/eval_log_aggregated.json",
        "task eval_log: no average_perturb_loss",
    ),
    (
        "aggregate_eval_stat",
        "ckpt_result=@/log_no_task/eval_log_aggregated.json",
        "no task eval_forget_facerec",
        "eval_task_ids",
    ),
    (
        "aggregate_eval_stat",
        "ckpt_result=@/log_rows/eval_log_aggregated.json",
        "task eval_log_forget: the logs",
        "3",
        "same split",
    ),
    ("aggregate_eval_stat", "ckpt_result=@/log_reference/eval_log_aggregated.json", "other reference texts in rows 3"),
    (
        "aggregate_eval_stat",
        "ckpt_result=@/log_meta/eval_log_aggregated.json",
        "eval_meta.json: expected schema_version",
        "Delete it",
    ),
    ("aggregate_eval_stat", f"{CKPT}log_negative{LOG}", "log_negative", "row 3: avg_gt_loss is -5.0", "cannot be"),
    ("aggregate_eval_stat", f"{CKPT}log_no_tokens{LOG}", "log_no_tokens", "row 3: num_token_gt is -4", "at least 1"),
    ("aggregate_eval_stat", f"{CKPT}log_recall{LOG}", "log_recall", "rougeL_recall is 1.5", "at most 1"),
    ("aggregate_eval_stat", f"{CKPT}log_list{LOG}", "log_list", "avg_gt_loss is [1.0, 2.0], not values by row"),
    ("aggregate_eval_stat", f"{CKPT}log_text{LOG}", "log_text", "row 3: avg_gt_loss is '0.5', not a finite number"),
    ("aggregate_eval_stat", f"{CKPT}text_huge{LOG}", f"text_huge{LOG}", "row 0: avg_gt_loss is", "not a finite number"),
    ("aggregate_eval_stat", f"{CKPT}text_digits{LOG}", f"text_digits{LOG}", "not valid JSON"),
    ("aggregate_eval_stat", f"{CKPT}text_deep{LOG}", f"text_deep{LOG}", "nested too deeply"),
    ("aggregate_eval_stat", f"{CKPT}text_latin{LOG}", f"text_latin{LOG}", "not UTF-8"),
    ("aggregate_eval_stat", f"{CKPT}text_task_twice{LOG}", "text_task_twice", "'eval_log.json' occurs twice"),
    ("aggregate_eval_stat", f"{CKPT}text_row_twice{LOG}", "text_row_twice", "'0' occurs twice"),
    ("aggregate_eval_stat", f"{CKPT}asked_types{LOG}", "asked_types/eval_meta.json", "row 3: wrong_answers is 'one'"),
    ("aggregate_eval_stat", f"{ALIKE} {CKPT}asked_briefly{LOG}", "max_new_tokens", "8 against 64", "asked_briefly"),
    (
        "aggregate_eval_stat",
        f"{ALIKE} {CKPT}asked_question{LOG}",
        "task eval_log: another question in rows 3",
        "'Who is not here?' against 'Who?'",
    ),
    ("aggregate_eval_stat", f"{ALIKE} {CKPT}asked_base{LOG}", "another base answer in rows 3", "'in other words'"),
    (
        "aggregate_eval_stat",
        f"retain_result=@/asked_pictures{LOG} {CKPT}asked_picture{LOG}",
        "another picture in rows 3",
        "feed",
        "against none",
    ),
    ("aggregate_eval_stat", f"{ALIKE} {CKPT}asked_thumbnail{LOG}", "another picture in rows 3", "0123456789abcdef.jpg"),
    (
        "aggregate_eval_stat",
        f"{ALIKE} {CKPT}asked_alike{LOG} base_result=@/asked_briefly{LOG}",
        "max_new_tokens",
        "64 against 8",
    ),
    (
        "aggregate_eval_stat",
        f"{CKPT}asked_start{LOG} base_result=@/asked_alike{LOG}",
        "started from models/npo as run old",
        "the base was trained anew since",
    ),
    ("aggregate_eval_stat", "save_file=@/new.html", "save_file=", "new.html is where the rows go", ".json or .csv"),
    ("aggregate_eval_stat", "save_file=@/new.png", "new.png is where the rows go"),
    ("aggregate_eval_stat", "picture=@/new.json", "picture=", "new.json is the file of save_file too"),
    ("aggregate_eval_stat", "markdown=@/a.txt latex=@/a.txt", "a.txt is the file of markdown too"),
    ("aggregate_eval_stat", "save_file=@/utf16.json", "utf16.json: not UTF-8", "Choose another save_file"),
    ("aggregate_eval_stat", "save_file=@/board.json", "board.json", "Choose another save_file"),
    ("aggregate_eval_stat", "refusals=@/nothing.txt", "nothing.txt: no such file", "refusals=null"),
    ("cv/prepare", "modells=4", "unknown config key 'modells'", "Did you mean 'models'"),
    ("cv/forget", "options.alhpa=1", "unknown config key 'options.alhpa'", "Did you mean 'options.alpha'"),
    ("cv/prepare", "data_path=@/nothing", "nothing"),
    ("cv/prepare", "data_path=@/one_face", "fewer than two people"),
    ("cv/prepare", "data_path=@/phone_face num_enroll=1", "person 3/3.HEIC is a kind of picture that is not read here"),
    ("cv/prepare", "data_path=@/broken_face num_enroll=1", "person 2/1.png cannot be opened"),
    ("cv/finetune", "splits=@/nothing", "nothing", "cv/prepare.py"),
    ("cv/finetune", "model_path=@/nothing", "bad_splits"),
    ("cv/score", "model_path=@/nothing splits=@/nothing", "nothing", "cv/prepare.py"),
]


def family(text: str) -> Callable[[Path], Any]:
    """An entry of model_config.yaml."""

    def load(world: Path) -> Any:
        from unlearn.models.families import load_family

        (config := world.parent / "model_config.yaml").write_text(text)
        return load_family("mine", config)

    return load


def _minibench(name: str) -> Callable[[Path], Any]:
    def build(world: Path) -> Any:
        import minibench.folders

        return minibench.folders.build(name, world / "built")

    return build


CALLS: list[tuple[str, Callable[[Path], Any], tuple[str, ...]]] = [
    (
        "model_config: unknown key",
        family("mine: {hf_key: a/b, rmu_layers: 3}"),
        ("'mine.rmu_layers'", "'mine.rmu_layer'"),
    ),
    ("model_config: wrong type", family("mine: {hf_key: a/b, rmu_layer: low}"), ("mine.rmu_layer='low' is not a int",)),
    ("model_config: no hf_key", family("mine: {rmu_layer: 3}"), ("mine", "hf_key")),
    (
        "model_config: no entry",
        family("other: {hf_key: a/b}"),
        ("Unknown model_family 'mine'", "model_config.yaml has: other"),
    ),
    ("model_config: no YAML", family("mine: {hf_key: a/b"), ("model_config.yaml",)),
    ("model_config: a list", family("- mine"), ("model_config.yaml",)),
    (
        "minibench: unknown dataset",
        _minibench("clear-maxi"),
        ("No embedded dataset 'clear-maxi'", "clear-mini and tofu-mini"),
    ),
]
ROWS = SETTINGS + FILES


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad") / "world"
    folder.mkdir()
    write_world(folder)
    return folder


@pytest.fixture(autouse=True)
def here(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def check(error: BaseException, words: tuple[str, ...]) -> None:
    """The message says what a user must know; it is no library's own inner trouble."""
    message = str(error)
    assert not isinstance(error, (KeyError, IndexError, AttributeError, TypeError, AssertionError)), repr(error)
    for word in words:
        assert word in message, f"{word!r} is not in: {type(error).__name__}: {message}"


@pytest.mark.parametrize("row", ROWS, ids=[re.sub(r"\W+", "-", f"{row[0]} {row[1]}") for row in ROWS])
def test_a_script_says_what_is_wrong_and_leaves_no_trace(row: tuple[str, ...], world: Path) -> None:
    script, wrong, *words = row
    given = dict(word.split("=", 1) for word in GOOD[script])
    given |= dict(word.split("=", 1) for word in wrong.split(" "))
    overrides = [f"{key}={value}".replace("@", str(world)) for key, value in given.items()]
    before = tree(world)
    try:
        with pytest.raises((Exception, SystemExit)) as caught:
            run_script(f"{script}.py", *overrides)
        check(caught.value, tuple(words))
        assert tree(world) == before
    finally:
        shutil.rmtree(world / "out", ignore_errors=True)  # or the next rows would stumble over it


@pytest.mark.parametrize(("load", "words"), [row[1:] for row in CALLS], ids=[row[0] for row in CALLS])
def test_a_config_says_what_is_wrong(load: Callable[[Path], Any], words: tuple[str, ...], world: Path) -> None:
    before = tree(world)
    with pytest.raises((ValueError, OSError)) as caught:
        load(world)
    check(caught.value, words)
    assert tree(world) == before


def test_the_table_covers_every_script() -> None:
    assert len(ROWS) + len(CALLS) >= 60 and {row[0] for row in ROWS} == set(GOOD)
