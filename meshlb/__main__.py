"""`python -m meshlb`."""

from meshlb.cli import main

if __name__ == "__main__":
    main(prog_name="meshlb")
