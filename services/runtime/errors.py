"""Names the ways a process may refuse or stop, by what the person or program that started it does next."""


class TollhouseError(Exception):
    """Base of every error that Tollhouse raises on purpose; never raised itself."""


class StartRefused(TollhouseError):
    """The process cannot start as asked: its text is one sentence for the person who asked, exit code 2.

    For a port in use, a missing extra, a locked data directory, a configuration with faults.
    """


class ServiceStopped(TollhouseError):
    """The process ran and had to stop by its own decision (a limit reached): log it, exit code 1."""
