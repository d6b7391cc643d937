#!/usr/bin/env bash
# The one command before a commit: format, lint, types, layers. `--tests` adds the quick tests.
set -euo pipefail
cd "$(dirname "$0")/.."

ruff format --check .
ruff check .
mypy
lint-imports
if [ "${1:-}" = "--tests" ]; then
    OMP_NUM_THREADS=1 python -m pytest -m "not slow"
fi
