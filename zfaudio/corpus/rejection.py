"""The exception for one recording that cannot be used. All others go on."""


class RejectedRecording(Exception):
    """Raised for a recording that cannot be used. Its text is the reason, in one line without the file's name."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
