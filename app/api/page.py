"""The web page: what `web/` builds into `app/static`, served to everybody.

Its files are the same on every machine and hold no data; what it shows it asks of the API, as the
person at the browser. Its addresses are fragments (`/#/jobs/job_...`), so none of them is one of
the API. The files are looked for once, when the application is made.
"""

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

FOLDER = Path(__file__).parents[1] / "static"
ASSETS = "/assets"
FOREVER = "public, max-age=31536000, immutable"
OK = 200
NOT_BUILT = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Topwork</title></head>
<body>
<h1>Topwork is running</h1>
<p>Its web page is not built here. Install Node.js 20.19 or newer, run
<code>make setup</code> in the checkout, and start the service again.</p>
<p>The API is complete without it: <a href="/docs">documentation</a>.</p>
</body>
</html>
"""


class Assets(StaticFiles):
    """Files whose names carry the hash of their content, so that a browser asks for each once."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file, to be kept for ever."""
        response = await super().get_response(path, scope)
        if response.status_code == OK:
            response.headers["Cache-Control"] = FOREVER
        return response


def install(app: FastAPI, folder: Path = FOLDER) -> None:
    """Serve the page at `/`, or say there how it is built."""
    file = folder / "index.html"
    text = file.read_text() if file.is_file() else NOT_BUILT

    def index(_request: Request) -> HTMLResponse:
        return HTMLResponse(text, headers={"Cache-Control": "no-cache"})

    # Not a route of the API: a link that somebody has put a query behind still opens the page.
    app.add_route("/", index, include_in_schema=False)
    if file.is_file():
        app.mount(ASSETS, Assets(directory=folder / "assets"))
