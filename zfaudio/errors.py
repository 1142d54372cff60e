"""The exception for mistakes that the user can fix."""


class UserError(Exception):
    """A mistake in what the user gave. Its text is one line that names the file or option and says what to do.

    Commands print the text without a traceback and exit with a status other than 0.
    """
