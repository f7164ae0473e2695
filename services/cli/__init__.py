"""What a person types: commands that read the configuration and start a room."""

from services.cli.commands import main

__all__ = ["main"]
