#!/bin/bash
# Train a network on several nodes of a Slurm cluster.
#
#     sbatch --nodes=2 docs/slurm/train_nodes.sh CONFIG [OPTIONS OF adaptis train]
#
# One worker runs on each node, with the GPUs that Slurm gives to it.  Ten minutes before the time
# is over, Slurm asks for the end: the training writes a checkpoint, and the job is queued again and
# goes on from there.  Variables of the environment:
#
#     ADAPTIS   the command, if it is not on your PATH: ".venv/bin/adaptis"
#     WORKERS   number of workers (default: one for each node)
#
#SBATCH --job-name=adaptis-train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@600
#SBATCH --requeue
#SBATCH --open-mode=append
# On GPUs: #SBATCH --gpus-per-node=1

set -euo pipefail

if [ $# -lt 1 ] || [ -z "${SLURM_JOB_ID:-}" ]; then
    echo "usage: sbatch --nodes=N $0 CONFIG [OPTIONS OF adaptis train]" >&2
    exit 2
fi
read -ra adaptis <<< "${ADAPTIS:-adaptis}"
hosts=$(mktemp)
trap 'rm -f "$hosts"' EXIT
scontrol show hostnames "$SLURM_JOB_NODELIST" > "$hosts"

# Slurm starts the processes on the other nodes, so they need no ssh from node to node.
"${adaptis[@]}" launch --hosts "$hosts" -n "${WORKERS:-$SLURM_JOB_NUM_NODES}" \
    --ssh 'srun --overlap --nodes=1 --ntasks=1 --nodelist' train "$@" --resume &
launcher=$!
asked=
trap 'asked=1; kill -TERM "$launcher"' TERM

status=0
wait "$launcher" || status=$?
if [ -n "$asked" ]; then   # the first wait ended with the signal
    status=0
    wait "$launcher" || status=$?
    if [ "$status" -eq 143 ]; then   # it has stopped before its end
        scontrol requeue "$SLURM_JOB_ID"
    fi
fi
exit "$status"
