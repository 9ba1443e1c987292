"""The exceptions that end a stage early."""


class UserError(Exception):
    """A mistake the user can correct. It is shown as one sentence; the exit code is 2.

    Args:
        message: what is wrong and what to do.
        rerun: name of the stage whose script corrects it; cli.py appends its command.
    """

    def __init__(self, message: str, rerun: str | None = None):
        super().__init__(message)
        self.rerun = rerun


class Stopped(BaseException):  # noqa: N818 - not an error
    """Stopped by the signal whose number it holds; a training has saved, unless a second one came."""
