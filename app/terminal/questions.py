"""Ask the person at the terminal what the service cannot know, and go on with the answer."""

import sys

from rich.prompt import IntPrompt
from rich.text import Text

from app.terminal.output import Session
from app.terminal.watch import watch_job
from core.system.command_names import command
from topwork.client.synchronous.jobs import Job
from topwork.types.problems import Error, Option

NONE_OF_THESE = "none of these; end here"


def follow(terminal: Session, job: Job) -> Job:
    """Follow a job to its end; a question on the way is asked where somebody is there to answer.

    The upload stays with the service meanwhile, and the job is the same one after the answer.
    """
    job, dataset = watch_job(terminal, job), str(job.dataset).partition("@")[0]
    while (option := _ask(terminal, job.error)) is not None:
        answer = {str(job.error and job.error.param): option.value}
        terminal.topwork.datasets.answer(dataset, **answer)
        job = watch_job(terminal, job.refresh())
    if job.error and job.error.options:
        answer_it = command("datasets", "answer", dataset, url=job.url)
        terminal.say(f"Its upload is kept; go on with {answer_it} and one of the options below")
    return job


def _ask(terminal: Session, error: Error | None) -> Option | None:
    """Return the option that was chosen; None without a question, a terminal or a choice."""
    options = error.options if error else []
    if not options or error is None or terminal.as_json or not terminal.err.is_terminal:
        return None
    if not sys.stdin.isatty():
        return None
    terminal.err.print(Text(error.message, style="yellow"))
    for number, words in enumerate([*(it.meaning for it in options), NONE_OF_THESE], 1):
        terminal.err.print(Text(f"  {number}  {words}"))
    choices = [str(number) for number in range(1, len(options) + 2)]
    chosen = IntPrompt.ask("What is meant", console=terminal.err, choices=choices)
    return options[chosen - 1] if chosen <= len(options) else None
