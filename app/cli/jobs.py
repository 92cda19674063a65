"""`topwork jobs`: look at jobs, follow them, stop them."""

from itertools import islice
from typing import Annotated

import typer

from app.terminal.output import Session, facts, remote, table
from app.terminal.watch import watch_job
from topwork.client import Job

group = typer.Typer(help="List, follow, pause, cancel and retry jobs.", no_args_is_help=True)

JobId = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job.")]
Limit = Annotated[int, typer.Option(min=1, help="Most rows.")]


@group.command("list")
@remote
def list_jobs(
    terminal: Session,
    state: Annotated[str | None, typer.Option(help="Only jobs in this state.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only jobs of this kind.")] = None,
    limit: Limit = 20,
) -> None:
    """List jobs, the newest first."""
    jobs = list(islice(terminal.topwork.jobs.list(state=state, kind=kind), limit))
    terminal.show(
        jobs,
        lambda: table(
            ("job", "kind", "state", "phase", "progress", "created"),
            (
                (job.id, job.kind, job.state, job.phase, f"{job.progress:.0%}", job.created_at)
                for job in jobs
            ),
        ),
    )


@group.command()
@remote
def show(terminal: Session, job: JobId) -> None:
    """Show one job."""
    _show(terminal, terminal.topwork.jobs.get(job))


@group.command()
@remote
def cancel(terminal: Session, job: JobId) -> None:
    """Ask a job to stop."""
    _show(terminal, terminal.topwork.jobs.cancel(job))


@group.command()
@remote
def pause(terminal: Session, job: JobId) -> None:
    """Let a job rest; one that runs saves a checkpoint first."""
    _show(terminal, terminal.topwork.jobs.pause(job))


@group.command()
@remote
def resume(terminal: Session, job: JobId) -> None:
    """Queue a paused job again; it goes on where it stopped."""
    _show(terminal, terminal.topwork.jobs.resume(job))


@group.command()
@remote
def retry(terminal: Session, job: JobId) -> None:
    """Queue a failed or cancelled job again; it resumes from its checkpoint."""
    _show(terminal, terminal.topwork.jobs.retry(job))


@group.command()
@remote
def delete(terminal: Session, job: JobId) -> None:
    """Delete a job that has ended."""
    terminal.topwork.jobs.delete(job)


@group.command()
@remote
def logs(terminal: Session, job: JobId) -> None:
    """Print what the job's process wrote."""
    text = terminal.topwork.jobs.logs(job)
    terminal.json({"job": job, "logs": text}) if terminal.as_json else typer.echo(text, nl=False)


@group.command()
@remote
def events(terminal: Session, job: JobId) -> None:
    """List what happened to a job."""
    happened = list(terminal.topwork.jobs.events(job))
    terminal.show(
        happened,
        lambda: table(
            ("seq", "at", "kind", "data"),
            ((event.seq, event.at, event.kind, event.data) for event in happened),
        ),
    )


@group.command()
@remote
def watch(terminal: Session, job: JobId) -> None:
    """Follow a job until it ends; with --json one event a line."""
    if terminal.as_json:
        for event in terminal.topwork.jobs.stream(job):
            terminal.json(event)
        terminal.topwork.jobs.get(job).check()
    else:
        watch_job(terminal, terminal.topwork.jobs.get(job)).check()


def _show(terminal: Session, job: Job) -> None:
    terminal.show(job, lambda: facts(job))
