"""A command that a signal ended, with what the user should know about it."""


class CommandStopped(KeyboardInterrupt):
    """Ends the program with a line on stderr.

    Attributes:
        exit_code: 128 + the signal's number, as is the custom.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number
