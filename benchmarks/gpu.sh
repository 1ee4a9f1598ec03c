#!/usr/bin/env bash
# Everything worth knowing on one CUDA machine, in under 9 minutes: a smoke test of every device branch, step rate and
# end-to-end rate of resnext50_32x4d at 224, and the wall time of five folds on a pack of images.
#
# usage: benchmarks/gpu.sh PACK        PACK holds manifest.csv with the columns file, label, group
#   PYTHON=python3        an interpreter with torch, timm, scikit-learn, pandas, OpenCV
#   WHEELS=DIR            wheels of what it lacks: albumentations, albucore, simsimd, stringzilla, imagecodecs,
#                         pydantic, pydantic-core, annotated-types (installed into a temporary folder)
#   WEIGHTS=none          model.weights of the five folds: none, imagenet, or a file
set -euo pipefail
pack=$(cd "${1:?usage: benchmarks/gpu.sh PACK}" && pwd)
python=${PYTHON:-python3}
cd "$(dirname "$0")/.."
here=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PYTHONPATH=$here/src:$here NO_ALBUMENTATIONS_UPDATE=1 PYTHONUNBUFFERED=1
if [ -n "${WHEELS:-}" ]; then
    "$python" -m pip install --quiet --no-index --no-deps --target "$work/site" "$WHEELS"/*.whl
    export PYTHONPATH=$PYTHONPATH:$work/site
fi

nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
"$python" -c 'import torch, timm; print("torch", torch.__version__, "timm", timm.__version__)'
echo "== smoke test"
"$python" -m benchmarks.gpu_smoke
echo "== rates"
for batch in 64 256; do
    "$python" -m benchmarks.train_speed --device cuda --model resnext50_32x4d --size 224 --batch $batch --seconds 10
done
echo "== five folds on $(basename "$pack")"
cd "$work"
cat > pack.yaml <<YAML
name: pack
data: {root: "$pack", table: "$pack/manifest.csv", columns: {path: file, label: label, group: group}}
folds: {num: 5}
model: {name: resnext50_32x4d, weights: "${WEIGHTS:-none}", image_size_px: 224}
finetune: {epochs: 20, validation_fraction: 0}
tracking: {mlflow: false}
YAML
for stage in prepare train evaluate; do
    started=$SECONDS
    "$python" -m microscopy_cls "$stage" -c pack.yaml
    echo "$stage: $((SECONDS - started)) s"
done
