"""`topwork up` with small scripts for children: `python standin.py DATA_DIR PORT [MODE...]`.

Modes: `deaf`, `pipe`; `unready`, whose worker ends before it is ready; `fragile`, whose worker ends
whenever it has become ready; `chatty`, whose worker writes and writes.
"""

import sys
from pathlib import Path

from app.supervisor.console import Console
from app.supervisor.process import Service
from app.supervisor.supervise import Supervisor
from app.supervisor.up import Plan, up
from core.system.child import python
from core.system.settings import Settings
from topwork.errors import TopworkError

API = """
import http.server, socket, sys, time
from core.system import readiness_signal
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        while self.path == "/events":
            self.wfile.write(b": beat\\n\\n")
            time.sleep(0.02)
    def log_message(self, *_args): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
server.socket.close()
server.socket = socket.socket(fileno=int(sys.argv[1]))
readiness_signal.announce()
server.serve_forever()
"""
WORKER = """
import os, signal, sys, time
from core.system import readiness_signal
if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("pid", os.getpid(), os.environ["TOPWORK_RUN_DIR"], flush=True)
if "unready" in sys.argv:
    sys.exit("this machine has no luck")
readiness_signal.announce()
if "fragile" in sys.argv:
    sys.exit(7)
while "chatty" in sys.argv:
    for _ in range(1000):
        print("x" * 100)
    with open(os.path.join(os.environ["TOPWORK_DATA_DIR"], "said"), "a") as said:
        said.write("x")
time.sleep(600)
"""


def services(plan: Plan) -> tuple[Service, ...]:
    (fd,) = (one.fileno() for one in plan.sockets)
    return (
        Service("api", python("-c", API, str(fd)).command, fds=(fd,)),
        Service("worker", python("-c", WORKER, *sys.argv[3:]).command, grace=4.0),
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
