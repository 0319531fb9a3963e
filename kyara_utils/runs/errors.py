"""The one exception a user is meant to read: a single line that says what is wrong and how to fix it."""


class KyaraError(Exception):
    """A mistake or lack outside the code (input, file, disk, port); printed as one line, exit code 1."""
