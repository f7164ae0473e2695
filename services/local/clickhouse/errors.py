"""Names why a request ends in an error, in ClickHouse's own codes, and the HTTP status of each."""

import enum
import re


class ErrorCode(enum.IntEnum):
    """The ClickHouse error codes that this server raises itself; the engine knows many more."""

    BAD_ARGUMENTS = 36
    NOT_IMPLEMENTED = 48
    SYNTAX_ERROR = 62
    UNKNOWN_SETTING = 115
    READONLY = 164
    TOO_MANY_SIMULTANEOUS_QUERIES = 202
    QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING = 216
    QUERY_IS_TOO_LARGE = 229
    NOT_ENOUGH_SPACE = 243
    CANNOT_DECOMPRESS = 271
    SESSION_NOT_FOUND = 372
    SESSION_IS_LOCKED = 373
    INVALID_SESSION_TIMEOUT = 374
    QUERY_WAS_CANCELLED = 394
    ACCESS_DENIED = 497
    AUTHENTICATION_FAILED = 516
    UNKNOWN_EXCEPTION = 1002


class QueryFailed(Exception):
    """The request ends with a ClickHouse error: answer the client with its code and text."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def refused(code: ErrorCode, reason: str) -> QueryFailed:
    """Word a refusal of our own the way the engine words its errors, so that clients find code and name."""
    return QueryFailed(code, f"Code: {code.value}. DB::Exception: {reason} ({code.name})")


def engine_failure(message: str) -> QueryFailed:
    """Read the code out of an engine's message and drop what the Python binding wrote before it."""
    found = ENGINE_CODE.search(message)
    if found is None:
        return refused(ErrorCode.UNKNOWN_EXCEPTION, message or "The engine failed without a message.")
    return QueryFailed(int(found[1]), message[found.start() :].strip())


def http_status(code: int) -> int:
    """Tell the HTTP status that a ClickHouse server sends with an error code."""
    return STATUS_BY_CODE.get(code, 500)


ENGINE_CODE = re.compile(r"Code: (\d+)")

# As ClickHouse's HTTP handler maps them; a code that is not here is a 500 there too. Two are this server's
# choice: an undecodable body is the client's fault (400), and a full house is worth another try (503).
CODES_BY_STATUS = {
    400: (
        6,
        8,
        15,
        25,
        26,
        27,
        36,
        37,
        38,
        41,
        44,
        53,
        62,
        72,
        117,
        123,
        167,
        168,
        223,
        271,
        321,
        376,
        427,
        441,
        675,
        676,
    ),
    401: (194,),
    403: (192, 193, 497, 512, 516),
    404: (46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 152, 336, 511),
    408: (159,),
    411: (381,),
    413: (229,),
    415: (779,),
    501: (48,),
    503: (76, 202, 209, 439),
}
STATUS_BY_CODE = {int(code): status for status, codes in CODES_BY_STATUS.items() for code in codes}
