"""The Publish page in a real browser, against a Hub that answers: model, recordings and demo page."""

import pytest
from playwright.sync_api import expect

from tests.browser import recorder_server
from tests.hub import HubServer
from tests.workspaces import ROOT, copy_project, read_json

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def workspace(trained_project, tmp_path_factory):
    """A project in which the pipeline has run once; its recordings are of a speaker who has agreed to be recorded."""
    return copy_project(trained_project, tmp_path_factory.mktemp("publish") / "project", push__require="none")


def test_model_recordings_and_demo_page_go_up_after_consent_and_nothing_before(workspace, page, tmp_path):
    with HubServer(tokens={"planted-token": "write:ann"}) as hub:
        variables = hub.environment(tmp_path / "home", token="planted-token")
        wanted = {name: value for name, value in variables.items() if name.startswith(("HF_", "NO_PROXY"))}
        with recorder_server(workspace, **wanted | {"HF_HUB_OFFLINE": "0"}) as (address, _):
            page.goto(f"{address}/publish?speaker=Ann&language=en")
            page.get_by_text("Logged in to the Hub as ann").wait_for()
            expect(page.get_by_role("textbox", name="Name on the Hub").first).to_have_value("ann/my-voxtral")
            page.get_by_text("Also the whole model in one piece").click()
            page.get_by_text("Also publish the recordings").click()
            page.get_by_text("I have read this").click()
            page.get_by_role("button", name="Continue").click()
            page.get_by_text("Agreed to publication: Ann").wait_for()
            page.get_by_text("e-mail address: publish this text").click()
            page.get_by_text("Publish a page").click()
            page.get_by_role("textbox", name="Name on the Hub").nth(2).wait_for()
            assert not hub.repositories
            page.get_by_role("button", name="Publish", exact=True).click()
            page.get_by_text("Last run: ✓ done").wait_for(timeout=240_000)
            page.get_by_role("link", name="Model on the Hub").wait_for()
            page.get_by_role("link", name="Demo page on the Hub").wait_for()
            page.get_by_role("link", name="Recordings on the Hub").wait_for()
        receipt = read_json(workspace / "data/receipts/push.json")
        assert receipt["private"] and receipt["commit"] == hub.commit("model", "ann/my-voxtral")
        assert receipt["dataset"]["commit"] == hub.commit("dataset", "ann/my-voice")
        assert hub.repository("dataset", "ann/my-voice").private
        assert (
            hub.repository("space", "ann/my-voxtral-demo").files["app.py"]
            == (ROOT / "demo_voxtral/app.py").read_bytes()
        )
        logs = [path for path in workspace.rglob("*") if path.suffix in (".txt", ".log", ".json", ".yaml", ".lock")]
        assert not [path for path in logs if b"planted-token" in path.read_bytes()]
