"""Checks before any package is imported. Standard library only."""

import importlib.util
import os
import signal
import sys


def prepare() -> None:
    """Check that the packages are installed and config.py runs, and set what must be set before.

    Raises:
        SystemExit: a package is missing, or config.py has a mistake (exit code 2).
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during imports needs no traceback
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # run.sh blocks it
    for descriptor in (0, 1, 2):  # a file that takes the place of a closed one would get what is printed
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout, sys.stderr = sys.stdout or open(1, "w"), sys.stderr or open(2, "w")
    # some file systems have no locks; `Run.locked` locks the whole run
    os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")
    for package in ("numpy", "scipy", "yaml", "h5py", "keras", "tensorflow"):
        if not importlib.util.find_spec(package):
            import shlex  # takes some milliseconds, in which Ctrl-C would print a traceback

            command = shlex.join([os.path.basename(sys.argv[0]), *sys.argv[1:]])
            remedy = f"run: source .venv/bin/activate, or: .venv/bin/python {command}"
            venv = os.path.join(os.path.dirname(__file__), "..", ".venv")
            if os.path.realpath(sys.prefix) == os.path.realpath(venv):
                remedy = "delete .venv, which ./run.sh then makes again"
            print(
                f"{sys.executable} lacks the package {package}, which ./run.sh installs into .venv; {remedy}",
                file=sys.stderr,
            )
            sys.exit(2)
    _check_config()


def _check_config():
    """Exit with a sentence if Python cannot run config.py."""
    try:
        import config  # noqa: F401 - the modules that use it import it again
    except Exception as error:  # whatever is wrong in the user's file
        import traceback

        place, reason = "config.py", str(error) or type(error).__name__
        if isinstance(error, SyntaxError):
            place, reason = f"config.py, line {error.lineno}", error.msg
        elif not isinstance(error, ModuleNotFoundError) or error.name != "config":
            place = f"config.py, line {traceback.extract_tb(error.__traceback__)[-1].lineno}"
        print(f"{place}: {reason}; correct it, or restore the file: git checkout config.py", file=sys.stderr)
        sys.exit(2)
