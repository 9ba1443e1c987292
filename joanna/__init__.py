"""What more than one stage of JOANNA needs."""

import importlib.util
import os
import shlex
import sys

for _package in ("numpy", "scipy", "yaml", "h5py", "keras", "tensorflow"):
    if not importlib.util.find_spec(_package):
        _words = shlex.join([os.path.basename(sys.argv[0]), *sys.argv[1:]])
        print(
            f"{sys.executable} lacks the package {_package}, which ./run.sh installs into .venv; "
            f"run: source .venv/bin/activate, or: .venv/bin/python {_words}",
            file=sys.stderr,
        )
        sys.exit(2)
