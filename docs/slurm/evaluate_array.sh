#!/bin/bash
# Measure a network in an array of Slurm jobs, and merge what they have measured.
#
#     bash docs/slurm/evaluate_array.sh 16 experiments/coco/r50.yaml [ARGUMENTS OF adaptis evaluate]
#
# submits 16 jobs, each of which measures every 16th image, and one that waits for them.  The result
# is in evaluations/slurm/coco_r50.json and equals that of a single job.  If jobs fail, repeat the
# command: finished ones end at once.  Variables of the environment:
#
#     ADAPTIS   the command, if it is not on your PATH: ".venv/bin/adaptis"
#     OUT       the folder of the results, which all nodes see (default: evaluations/slurm)
#     SAVE      also write the segmentations into this folder, in the format of a benchmark
#     SBATCH_*  options of sbatch, such as SBATCH_PARTITION; or change the lines below
#
#SBATCH --job-name=adaptis-evaluate
#SBATCH --cpus-per-task=1
#SBATCH --mem=8G
#SBATCH --time=12:00:00
#SBATCH --requeue
# On GPUs: #SBATCH --gpus-per-task=1

set -euo pipefail

if [ $# -lt 2 ] || ! [[ $1 =~ ^[1-9][0-9]*$ ]]; then
    echo "usage: bash $0 NUMBER_OF_JOBS CONFIG [ARGUMENTS OF adaptis evaluate]" >&2
    exit 2
fi
count=$1
config=$2
read -ra adaptis <<< "${ADAPTIS:-adaptis}"
name=${config%.yaml}
name=${name#experiments/}
folder=${OUT:-evaluations/slurm}/${name//\//_}

if [ -z "${SLURM_JOB_ID:-}" ]; then   # on the login node: submit
    mkdir -p "$folder"
    array=$(sbatch --parsable --array="1-$count" --output="$folder/%a.log" "$0" "$@")
    merge=$(sbatch --parsable --dependency="afterok:${array%%;*}" --output="$folder/merge.log" \
        "$0" "$@")
    echo "Submitted ${array%%;*} ($count jobs) and ${merge%%;*}, which merges: see $folder/*.log."
elif [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then   # one of the array
    export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
    "${adaptis[@]}" evaluate "${@:2}" --shard "$SLURM_ARRAY_TASK_ID/$count" \
        --out "$folder/$SLURM_ARRAY_TASK_ID-of-$count.npz" ${SAVE:+--save "$SAVE"}
else   # all of the array are done
    "${adaptis[@]}" evaluate --merge "$folder"/*-of-"$count".npz --out "$folder.json"
    if [ -n "${SAVE:-}" ]; then
        "${adaptis[@]}" evaluate --merge "$SAVE"/*-of-"$count" --save "$SAVE"
    fi
fi
