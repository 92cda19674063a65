from pathlib import Path

from fastapi import FastAPI
from starlette.testclient import TestClient

from app.api import page


def served(folder: Path) -> TestClient:
    app = FastAPI()
    page.install(app, folder)
    return TestClient(app)


def test_the_page_is_asked_for_each_time_and_its_files_once(tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "index-4f2a.js").write_text("1")
    (tmp_path / "index.html").write_text("<title>built</title>")
    client = served(tmp_path)
    index, script = client.get("/"), client.get("/assets/index-4f2a.js")
    assert "built" in index.text
    assert index.headers["Cache-Control"] == "no-cache"
    assert script.headers["Content-Type"].startswith("text/javascript")
    assert "immutable" in script.headers["Cache-Control"]


def test_what_is_beside_the_files_is_not_served(tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("")
    (tmp_path / "secret").write_text("")
    client = served(tmp_path)
    for path in ("/assets/../secret", "/assets/%2e%2e/secret", "/assets//secret", "/assets/"):
        answer = client.get(path)
        assert answer.status_code == 404, path
        assert "Cache-Control" not in answer.headers


def test_without_a_build_the_page_says_how(tmp_path: Path) -> None:
    answer = served(tmp_path).get("/")
    assert answer.status_code == 200
    assert "make setup" in answer.text
    assert 'href="/docs"' in answer.text
