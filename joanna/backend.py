"""Keras on TensorFlow, imported without TensorFlow's log noise. Take both from here."""

import contextlib
import logging
import os
import platform
import sys
import tempfile

# TensorFlow reads these once, when it is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_DETERMINISTIC_OPS", "1")
if platform.machine() in ("x86_64", "AMD64"):
    # the faster matrix products, which TensorFlow takes by itself on newer CPUs only
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # else a process takes the whole GPU
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["KERAS_HOME"] = os.devnull  # Keras's defaults, whatever ~/.keras/keras.json says


@contextlib.contextmanager
def _quiet_stderr():
    """Hold back what C++ code writes to stderr; show it if the block raises."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        failed = False
        try:
            yield
        except Exception:  # no Ctrl-C
            failed = True
            raise
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            if failed:
                held.seek(0)
                sys.stderr.write(held.read().decode(errors="replace"))


with _quiet_stderr():
    import keras
    import tensorflow

# Retracing warnings: every network is traced once a sequence length, which is meant.
logging.getLogger("tensorflow").setLevel(logging.ERROR)

__all__ = ["keras", "tensorflow"]
