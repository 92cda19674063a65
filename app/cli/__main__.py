"""`python -P -m app.cli` is `topwork`."""

from app.cli.program import main

if __name__ == "__main__":
    main()
