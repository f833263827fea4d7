"""`python -m tinsmith`: the command line."""

from .cli import main

main()
