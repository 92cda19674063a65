"""`topwork`: the command line. It never loads torch; what needs it runs as a process."""

from app.cli.program import main, program

__all__ = ["main", "program"]
