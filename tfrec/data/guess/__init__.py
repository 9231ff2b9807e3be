"""Guesses a first configuration by looking at files."""

from tfrec.data.guess.assemble import guess_config

__all__ = ["guess_config"]
