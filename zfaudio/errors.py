"""The one exception that means: the user can mend this."""


class UserError(Exception):
    """A mistake in what the user gave. Its text is one line that names the file or option and what to do.

    Commands print it without a traceback and leave with a status other than 0.
    """
