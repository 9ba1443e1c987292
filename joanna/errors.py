"""What ends a stage early."""


class UserError(Exception):
    """A mistake the user can mend; its text is all that is shown, and the exit code is 2."""


class Stopped(BaseException):  # noqa: N818 - no error
    """Stopped by the signal whose number it holds; what was to be saved is."""
