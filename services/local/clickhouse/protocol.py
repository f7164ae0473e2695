"""Bounds the head of a request (its URL and headers) while it arrives; uvicorn's protocol would keep any."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# A URL of 64 KiB, beyond which the parser of URLs gives up, headers, and what one read can bring of the body.
HEAD_BYTES_MAX = 512 * 1024


class BoundedHeadProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol, which cuts a connection whose request does not come to its body."""

    _is_in_head = True
    _head_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Take what has arrived; a head that grew too large ends the connection."""
        if self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self.send_400_response(f"The URL and the headers have more than {HEAD_BYTES_MAX} bytes.")
                return
        super().data_received(data)

    def on_headers_complete(self) -> None:
        """Count no further: what follows is the body, whose bound is the application's."""
        self._is_in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Begin to count the head of the next request."""
        self._is_in_head, self._head_bytes = True, 0
        super().on_message_complete()
