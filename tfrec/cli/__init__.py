"""The ``tfrec`` command. Each verb parses, loads the configuration and calls the library."""

# Importing a module of verbs adds them to `app`; help lists them in this order.
from tfrec.cli import catalogue, data, models, serving  # noqa: F401
from tfrec.cli.command import app, main

__all__ = ["app", "main"]
