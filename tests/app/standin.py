"""`topwork up` with small scripts for children: `python standin.py DATA_DIR PORT [deaf] [pipe]`."""

import sys
from pathlib import Path

from app.supervisor.console import Console
from app.supervisor.supervise import Service, Supervisor
from app.supervisor.up import Plan, children, up
from core.system.settings import Settings
from topwork.errors import TopworkError

API = """
import http.server, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        while self.path == "/events":
            self.wfile.write(b": beat\\n\\n")
            time.sleep(0.02)
    def log_message(self, *_args): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
WORKER = """
import os, signal, sys, time
if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("pid", os.getpid(), os.environ["TOPWORK_RUN_DIR"], flush=True)
time.sleep(600)
"""


def services(plan: Plan, settings: Settings) -> tuple[Service, ...]:
    api = children(plan, settings)[0]
    python = (sys.executable, "-c")
    return (
        Service("api", (*python, API, str(plan.port)), ready=api.ready, on_ready=api.on_ready),
        Service("worker", (*python, WORKER, *sys.argv[3:]), grace=4.0),
    )


def main(folder: Path, port: int, modes: list[str]) -> int:
    supervisor = Supervisor(Console(), use_pipe="pipe" in modes)
    try:
        return up(
            Plan(port=port), Settings(data_dir=folder), services=services, supervisor=supervisor
        )
    except TopworkError as error:
        supervisor.console.say(error.message)
        return 3


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
