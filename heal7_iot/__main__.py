"""`python -m heal7_iot`."""

from heal7_iot.cli import main

main()
