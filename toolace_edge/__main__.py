"""`python -m toolace_edge` is `toolace-edge`."""

from toolace_edge.cli import main

if __name__ == "__main__":
    main()
