"""`python -m prunecore`, which is the `prunecore` command."""

from __future__ import annotations

from prunecore.cli.main import main

if __name__ == "__main__":
    main()
