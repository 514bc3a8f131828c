"""What other toolkits call our flags, for a user who types their names."""

from __future__ import annotations

# What other toolkits call our flags: timm, PyTorch Lightning, Hugging Face, Ultralytics, mae.
OTHER_NAMES = {
    "adapt_epochs": "pretrain_epochs adaptation_epochs",
    "balance": "class_weight class_weights weighted_sampler balanced oversample pos_weight",
    "batch_size": "batch bs b per_device_train_batch_size train_batch_size micro_batch_size",
    "checkpoints": "checkpoint ckpt ckpt_path weights model_path",
    "compile": "torchcompile torch_compile",
    "clip_grad": "clip_grad_norm max_grad_norm gradient_clip_val grad_clip max_norm",
    "crop_area": "crop_scale",
    "cutout": "reprob random_erasing",
    "data_dir": "data data_path data_root dataset_dir root",
    "datasets": "dataset",
    "drop_path": "drop_path_rate",
    "early_stop": "patience early_stopping early_stopping_patience",
    "ema": "model_ema model_ema_decay ema_decay",
    "epochs": "num_epochs num_train_epochs max_epochs n_epochs e",
    "fold": "fold_id fold_index",
    "label_smoothing": "smoothing label_smoothing_factor",
    "rotation": "degrees rotate",
    "shift": "translate",
    "folds": "kfold k_folds n_splits n_folds num_folds",
    "freeze": "freeze_backbone freeze_encoder frozen_stages",
    "global_batch": "total_batch_size effective_batch_size accum_iter grad_accum_steps "
    "gradient_accumulation_steps accumulate_grad_batches",
    "grad_checkpointing": "gradient_checkpointing activation_checkpointing",
    "image_size": "img_size imgsz input_size img",
    "init": "pretrained checkpoint initial_checkpoint finetune weights ckpt ckpt_path encoder",
    "jitter": "color_jitter colour_jitter",
    "layer_decay": "layer_lr_decay llrd",
    "limit": "max_train_samples limit_train_batches fast_dev_run subset",
    "loss": "criterion loss_fn",
    "optimizer": "opt optim",
    "schedule": "sched scheduler lr_scheduler lr_scheduler_type",
    "lr": "learning_rate base_lr max_lr peak_lr",
    "mixed_precision": "precision amp amp_dtype bf16 fp16",
    "model": "arch backbone model_name model_name_or_path encoder",
    "report_to": "wandb log_wandb tensorboard logger",
    "run_dir": "output output_dir out out_dir save_dir log_dir logdir default_root_dir exp name",
    "save_minutes": "save_steps save_every save_interval",
    "seed": "random_seed random_state",
    "stage_epochs": "epochs num_epochs num_train_epochs max_epochs",
    "validate_every": "eval_every val_every eval_interval val_interval check_val_every_n_epoch",
    "warmup_epochs": "warmup warmup_steps warmup_ratio",
    "weight_decay": "wd",
    "workers": "num_workers dataloader_num_workers j",
}

# What other toolkits have a flag for, and what to do here.
ADVICE = {
    "resume resume_from resume_from_checkpoint auto_resume continue": "an interrupted run resumes "
    "by itself; run the same command again",
    "gpu gpus num_gpus devices nproc_per_node num_processes local_rank strategy": "to use several "
    "GPUs, start the script with `accelerate launch`; CUDA_VISIBLE_DEVICES chooses among them",
    "device accelerator cpu cuda no_cuda": "the GPU is used where there is one; "
    "ACCELERATE_USE_CPU=true keeps to the CPU",
    "eval evaluate do_eval test validate": "05_predict_submit.py --truth scores a model",
    "overwrite overwrite_output_dir force": "choose another --run-dir, or delete that folder",
}
