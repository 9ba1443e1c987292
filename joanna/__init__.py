"""What more than one stage of JOANNA needs."""

import importlib.util
import os
import shlex
import signal
import sys

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # as run.sh's shell starts its stages; Ctrl-C counts while packages are imported, too
    signal.signal(signal.SIGINT, signal.SIG_DFL)
for _package in ("numpy", "scipy", "yaml", "h5py", "keras", "tensorflow"):
    if not importlib.util.find_spec(_package):
        _words = shlex.join([os.path.basename(sys.argv[0]), *sys.argv[1:]])
        print(
            f"{sys.executable} lacks the package {_package}, which ./run.sh installs into .venv; "
            f"run: source .venv/bin/activate, or: .venv/bin/python {_words}",
            file=sys.stderr,
        )
        sys.exit(2)
