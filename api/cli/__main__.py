"""`python -m api.cli` is `xferq`."""

from api.cli import main

main()
