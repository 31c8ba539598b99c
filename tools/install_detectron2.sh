#!/usr/bin/env bash
# Install the pinned detectron2 into the environment of the given Python (default: python).
# The wheel is tagged for Python 3.10, so pip only takes it with an explicit target folder.
set -euo pipefail
python="${1:-python}"
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
if "$python" -c "import detectron2" 2>/dev/null; then
    echo "detectron2 is there already"
    exit 0
fi
site="$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')"
"$python" -m pip install --quiet --no-deps --only-binary=:all: --python-version 3.10 --require-hashes \
    --target "$site" --requirement "$root/requirements/detectron2.txt"
