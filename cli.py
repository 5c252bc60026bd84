"""Runs qtseg-edge from a checkout, without installing it."""

from qtseg_edge.cli import main

if __name__ == "__main__":
    main()
