"""Mints virtual keys and their ids; the only place that sees a new secret, of which it keeps nothing."""

import hashlib
import secrets

from schemas.ids import VirtualKeyId

KEY_PREFIX = "sk-"
ID_PREFIX = "vk_"
# 192 bits, 32 characters: no guessing, however often.
SECRET_BYTES = 24
ID_BYTES = 12
# A key that an operator brings along: as many characters as LiteLLM's own keys have.
KEY_CHARS_MIN = 22
KEY_CHARS_MAX = 512
# What is shown of a secret afterwards, and the sha256 of it that names it.
ENDING_CHARS = 4
DIGEST_CHARS = 64


def new_secret() -> str:
    """Mint a key's secret."""
    return KEY_PREFIX + secrets.token_urlsafe(SECRET_BYTES)


def new_key_id() -> VirtualKeyId:
    """Mint the id that a key is booked under for as long as it lives."""
    return VirtualKeyId(ID_PREFIX + secrets.token_hex(ID_BYTES))


def digest_of(secret: str) -> str:
    """Give what a secret is known by; secrets are never compared, only looked up by this."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def name_of(secret: str) -> str:
    """Give what a person may see of a secret."""
    return f"{KEY_PREFIX}...{secret[-ENDING_CHARS:]}"


def is_usable(secret: str) -> bool:
    """Say whether an operator's own choice can be a key: sent in any header, and not to be guessed."""
    is_long = KEY_CHARS_MIN <= len(secret) <= KEY_CHARS_MAX
    return (
        is_long
        and secret.startswith(KEY_PREFIX)
        and secret.isascii()
        and secret.isprintable()
        and " " not in secret
    )
