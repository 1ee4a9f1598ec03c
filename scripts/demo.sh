#!/usr/bin/env bash
# Draw the demo data, run the pipeline on both sets, say where to look. Run by `make demo`.
set -euo pipefail
microscopy-cls sample --out data/raw/demo
dvc repro --quiet
cat <<TEXT

Done. Look at the reports:
  $PWD/reports/demo-organisms/index.html
  $PWD/reports/demo-covid/index.html
The dashboard, with every run, curve and artifact: make mlflow, then open
  http://localhost:5000/#/experiments?workflowType=machine_learning
TEXT
