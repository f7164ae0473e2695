"""Lets `python -m services.cli` be the same as `tollhouse`."""

from services.cli.commands import main

if __name__ == "__main__":
    main()
