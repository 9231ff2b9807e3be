"""Guesses a first configuration by looking at files."""

from tfrec.autoconfig.assemble import guess_config

__all__ = ["guess_config"]
