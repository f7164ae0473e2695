"""Says to whom and to what an exchange is booked; carried whole by every event, so that none needs a join."""

import msgspec

from schemas.ids import VirtualKeyId


class Attribution(msgspec.Struct, frozen=True, kw_only=True):
    """Who caused an exchange, as known when it began."""

    virtual_key_id: VirtualKeyId
    key_alias: str = ""
    team_id: str = ""
    end_user_id: str = ""
    session_id: str = ""
    tags: tuple[str, ...] = ()
    metadata: dict[str, str] = {}
