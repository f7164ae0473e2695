"""Names what may stand between the tracker and a batch, by what it does next."""


class TrackerError(Exception):
    """Base of what may go wrong; never raised itself. Its text holds no value of an answer."""


class TryLater(TrackerError):
    """Anthropic cannot say now, or its answer broke off: ask again, at the earliest after `wait_s`."""

    def __init__(self, text: str, wait_s: float = 0.0) -> None:
        super().__init__(text)
        self.wait_s = wait_s


class NotThere(TrackerError):
    """Anthropic knows no such batch, or no longer has its results."""


class AccessRefused(TrackerError):
    """Anthropic refuses the credential: a person has to act; ask again now and then."""


class LinesChanged(TrackerError):
    """The results begin otherwise than when they were read before: read them again, and skip none."""
