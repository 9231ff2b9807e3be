"""Lets ``python -m tfrec`` do what the ``tfrec`` command does."""

from tfrec.cli import main

main()
