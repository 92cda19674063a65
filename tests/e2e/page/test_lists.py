"""Screens of what is there: each opens, and lists, filters and comparisons are the service's."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Service
from tests.e2e.page.browser import uploaded
from tests.e2e.page.conftest import Trained

pytestmark = [pytest.mark.page, pytest.mark.timeout(600)]


def test_every_screen_opens_and_goes_back(tab: Any) -> None:
    for room in ("Data", "Train", "Jobs", "Models", "Try", "Service"):
        tab.get_by_role("link", name=room, exact=True).first.click()
        tab.get_by_role("heading", level=1, name=room, exact=True).wait_for()
    tab.go_back()
    tab.get_by_role("heading", level=1, name="Try").wait_for()
    tab.get_by_role("button", name="Deutsch").click()
    tab.get_by_role("link", name="Modelle", exact=True).wait_for()


def test_a_late_page_of_images_is_none_of_another_filter(
    tab: Any, troubles: list[str], tmp_path: Path
) -> None:
    uploaded(tab, tmp_path / "late")
    held: list[Any] = []
    seen: list[dict[str, Any]] = []

    def listing(route: Any) -> None:
        if "after=" in route.request.url:
            held.append(route)
            return
        answer = route.fetch()
        page = answer.json()
        seen.extend(page["data"])
        route.fulfill(response=answer, json={**page, "has_more": True})

    def late(**answer: Any) -> None:
        with tab.expect_response(lambda got: "after=" in got.url):
            held.pop(0).fulfill(**answer)
        tab.evaluate("new Promise(requestAnimationFrame)")

    tab.route(re.compile(r"/images\?"), listing)
    with tab.expect_request(lambda asked: "after=" in asked.url):
        tab.reload()
    with tab.expect_request(lambda asked: "after=" in asked.url and "class=left" in asked.url):
        tab.locator("label", has_text="Class").first.locator("select").select_option("left")
    wrong = next(image for image in seen if image["class"] == "right")
    late(json={"object": "list", "data": [wrong], "has_more": False})
    captions = tab.locator(".tile span").all_inner_texts()
    assert captions
    assert set(captions) == {"left"}

    late(status=429, json={"code": "rate_limited", "detail": "Too many requests."})
    tab.get_by_text("Too many requests.").wait_for()
    with tab.expect_request(lambda asked: "after=" in asked.url):
        tab.get_by_role("button", name="Try again").click()
    tab.get_by_role("button", name="Leave out").click()
    tab.get_by_text("1 change", exact=True).wait_for()
    assert len(troubles) == 1
    assert "429" in troubles.pop()


def test_two_versions_are_compared_by_the_service(
    tab: Any, service: Service, trained: Trained
) -> None:
    tab.goto(f"{service.url}/#/compare")
    for place, version in enumerate(("1", "2")):
        tab.get_by_label("Model").nth(place).select_option(trained.model)
        tab.get_by_label("Version").nth(place).select_option(version)
    query = {"old": 1, "new": 2}
    found = service.http.get(f"/models/{trained.model}/compare", params=query).json()
    tab.get_by_role("heading", name=f"On the same {found['accuracy']['images']} ").wait_for()
    assert tab.get_by_role("row", name="nw").count() == 1
    assert tab.get_by_text("no difference is claimed").count() == 0
