"""The recording page without a browser, for tests: open it, press its buttons, read what it shows."""

from __future__ import annotations

import json
from unittest import mock

import numpy as np
from streamlit.testing.v1 import AppTest

from recorder import inbox
from recorder.takes import Take
from recorder.views import microphone
from tests.recordings import make_take, spoken
from tests.workspaces import DEMO_CLIPS, ROOT

TEXTS = ("title", "header", "subheader", "text", "markdown", "caption", "success", "info", "warning", "error")


class Page:
    """Streamlit's AppTest, with what a person does; its own attributes are there too."""

    def __init__(self, script: str, state: dict, asked: dict) -> None:
        self.test = AppTest.from_file(str(ROOT / "recorder" / script), default_timeout=60)
        for name, value in asked.items():
            self.test.query_params[name] = value
        for key, value in state.items():
            self.test.session_state[key] = value
        self.test.run()

    @classmethod
    def whole(cls, **asked: str) -> Page:
        """The app, at an address that asks for this; Record is shown."""
        return cls("app.py", {}, asked)

    @classmethod
    def of_ann(cls, name: str = "record") -> Page:
        """One page of the app, for Ann, who has agreed."""
        inbox.record_consent("Ann", "I agree")
        page = cls.whole(speaker="Ann", language="en")
        return page if name == "record" else page.turn_to(name)

    @classmethod
    def alone(cls, name: str, **state: object) -> Page:
        """One page without the sidebar."""
        return cls(f"views/{name}.py", {"speaker": "Ann", "language": "en", **state}, {}).run()

    def __getattr__(self, name: str) -> object:
        return getattr(self.test, name)

    def run(self) -> Page:
        self.test.run()
        assert not self.exception
        return self

    def turn_to(self, name: str) -> Page:
        self.test.switch_page(f"views/{name}.py")
        return self.run()

    def labelled(self, kind: str, label: str):
        """The button, the field ... whose label begins like this; a button also by its key."""
        return next(one for one in getattr(self, kind) if one.key == label or one.label.startswith(label))

    def press(self, *buttons: str) -> None:
        for name in buttons:
            self.labelled("button", name).click()
            self.run()

    def fill(self, kind: str, label: str, value: object) -> None:
        """The value is sent with the next press or run."""
        self.labelled(kind, label).set_value(value)

    def agree(self) -> None:
        self.checkbox[0].check()
        self.run().press("Continue")

    def choose_speaker(self, name: str) -> None:
        self.radio(key="speaker").set_value(name)
        self.run()

    def choose(self, *options: str) -> None:
        """Of the first row of choices, each after the other."""
        for option in options:
            self.button_group[0].set_value(option)
            self.run()

    def is_disabled(self, button: str) -> bool:
        return self.labelled("button", button).disabled

    def words(self, *kinds: str) -> str:
        """All that is shown as text of these kinds, of all if none is named; without backslashes."""
        return "\n".join(one.value.replace("\\", "") for kind in kinds or TEXTS for one in getattr(self, kind))

    @property
    def bodies(self) -> str:
        """All that is shown as HTML."""
        return "\n".join(element.body for element in self.html)

    @property
    def microphones(self) -> list[dict]:
        """What each microphone was told to show."""
        return [json.loads(one.proto.json) for one in self.main.children.values() if one.type == "bidi_component"]

    @property
    def phrase(self) -> str:
        return self.microphones[0]["phrase"]

    @property
    def has_take(self) -> bool:
        return self.microphones[0]["has_take"]

    def record(self, number: int | np.ndarray) -> Take | None:
        """The microphone has heard the demo's clip of this number, or these samples; returns the take."""
        sound = (number, 48_000) if isinstance(number, np.ndarray) else spoken(number)
        real = microphone.microphone

        def has_heard(key, prompt, *arguments, **options):
            real(key, prompt, *arguments, **options)
            return microphone.Recording(*sound, prompt)

        with mock.patch.object(microphone, "microphone", has_heard):
            self.run()
        self.run()  # as the browser would have it: a take is sent once
        return make_take(number) if isinstance(number, int) else None


def demo_sound(number: int) -> bytes:
    return (DEMO_CLIPS / f"{number:03}.opus").read_bytes()


def stored(*names: str) -> list[tuple]:
    """These fields of each stored clip."""
    return [tuple(getattr(clip, name) for name in names) for clip in inbox.stored_clips()]
