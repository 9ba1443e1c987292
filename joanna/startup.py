"""Checks before any package is imported. Standard library only."""

import importlib.util
import os
import shlex
import signal
import sys


def prepare() -> None:
    """Check that the packages are installed, and let Ctrl-C interrupt their import.

    Raises:
        SystemExit: a package is missing (exit code 2).
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # the shell of run.sh starts its stages with SIGINT ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    for package in ("numpy", "scipy", "yaml", "h5py", "keras", "tensorflow"):
        if not importlib.util.find_spec(package):
            command = shlex.join([os.path.basename(sys.argv[0]), *sys.argv[1:]])
            print(
                f"{sys.executable} lacks the package {package}, which ./run.sh installs into .venv; "
                f"run: source .venv/bin/activate, or: .venv/bin/python {command}",
                file=sys.stderr,
            )
            sys.exit(2)
