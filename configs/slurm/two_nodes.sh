#!/bin/bash
# Two nodes of eight GPUs under SLURM, from the folder of the scripts:
#   sbatch configs/slurm/two_nodes.sh 02_pretrain_mae.py --config configs/paper.toml
# First `source .venv/bin/activate`, so that torchrun is on the path of the job.
# --run-dir must be a folder that both nodes share; --data-dir may be a copy on each.
# The run saves a state before its time is up: submit the same command again to go on.
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@300
set -euo pipefail
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
MASTER_PORT=$((20000 + SLURM_JOB_ID % 10000))
export MASTER_ADDR MASTER_PORT
# One torchrun a node; each starts a process for every GPU of its node.
srun bash -c 'exec torchrun --nnodes "$SLURM_NNODES" --node-rank "$SLURM_NODEID" \
    --nproc-per-node "$SLURM_GPUS_ON_NODE" \
    --master-addr "$MASTER_ADDR" --master-port "$MASTER_PORT" "$@"' launch "$@"
