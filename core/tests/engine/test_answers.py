"""Questions of renderers to services, and rows of one's own table as observed objects."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from attrs import frozen

from ovnkit.api.items import Ask
from ovnkit.api.kinds import Answers, Kind, Table
from ovnkit.engine.answers import AnswerSink
from ovnkit.engine.sink import Owner
from ovnkit.process.tables import TableFeed
from ovnkit.sinks.ovsdb.model.replica import Record, RowChange


@frozen
class Weather:
    key: str
    text: str = ""


WEATHER: Kind[Weather] = Kind("weather", Answers(), lambda raw: Weather(**raw))
NOBODYS: Kind[Weather] = Kind("nobodys", Answers(), lambda raw: Weather(**raw))
ONE, OTHER = Owner("p", "r", "one"), Owner("p", "r", "other")


class Service:
    kind = WEATHER

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[str]]] = []

    def ask(self, keys: Collection[str]) -> None:
        self.calls.append(("ask", sorted(keys)))

    def drop(self, keys: Collection[str]) -> None:
        self.calls.append(("drop", sorted(keys)))

    def stop(self) -> None:
        self.calls.append(("stop", []))


class Rig:
    def __init__(self) -> None:
        self.posted: list[Callable[[], None]] = []
        self.seen: list[tuple[str, Any]] = []
        self.reports: list[str] = []
        self.sink = AnswerSink(
            self.posted.append,
            lambda _kind, changes: self.seen.extend(changes),
            lambda _owner, error: self.reports.append(str(error)),
        )
        self.service = Service()
        self.sink.add("p", self.service)

    def want(self, owner: Owner, *keys: str, kind: Kind[Any] = WEATHER) -> None:
        self.sink.want(owner, [Ask(kind, key) for key in keys])

    def tell(self, key: str, text: str) -> None:
        self.sink.tell(WEATHER, [(key, Weather(key, text))])
        for function in self.posted:
            function()
        self.posted.clear()


def test_a_service_is_asked_once_and_released_by_the_last() -> None:
    rig = Rig()
    rig.want(ONE, "paris", "rome")
    rig.want(OTHER, "rome")
    rig.sink.flush()
    rig.want(ONE, "paris")
    rig.sink.flush()
    assert rig.service.calls == [("ask", ["paris", "rome"])]
    rig.want(OTHER)
    rig.sink.flush()
    assert rig.service.calls[1:] == [("drop", ["rome"])]


def test_a_question_that_changes_hands_in_one_round_stays_open() -> None:
    rig = Rig()
    rig.want(ONE, "rome")
    rig.sink.flush()
    rig.tell("rome", "sun")
    rig.want(ONE)
    rig.want(OTHER, "rome")
    rig.sink.flush()
    assert rig.service.calls == [("ask", ["rome"])]
    assert rig.seen == [("rome", Weather("rome", "sun"))]


def test_answers_go_with_the_question_and_late_ones_are_ignored() -> None:
    rig = Rig()
    rig.want(ONE, "rome")
    rig.sink.flush()
    rig.tell("rome", "sun")
    rig.want(ONE)
    rig.sink.flush()
    assert rig.seen[-1] == ("rome", None)
    rig.tell("rome", "rain")
    assert rig.seen[-1] == ("rome", None)


def test_a_question_that_nobody_answers_is_reported() -> None:
    rig = Rig()
    rig.want(ONE, "rome", kind=NOBODYS)
    rig.sink.flush()
    assert rig.reports == ["nobody answers questions about nobodys"]
    assert rig.service.calls == []


class Told:
    def __init__(self) -> None:
        self.changes: list[tuple[str, Any]] = []

    def observe(self, _kind: Kind[Any], changes: Any) -> None:
        self.changes += changes

    def listed(self, _kind: Kind[Any]) -> None:
        pass


def test_a_kind_made_of_a_table_can_leave_rows_out_by_their_external_ids() -> None:
    table = Table("nb", "Address_Set", ("name", "external_ids"), having=(("type", "weather"),))
    kind: Kind[Weather] = Kind("sets", table, lambda raw: Weather(raw["name"]))
    told = Told()
    feed = TableFeed(None, [kind], told)  # type: ignore[arg-type]
    mine = Record("Address_Set", "u1", {"name": "mine", "external_ids": {"type": "weather", "x": "y"}})
    other = Record("Address_Set", "u2", {"name": "other", "external_ids": {"type": "news"}})
    feed.on_update([RowChange(mine), RowChange(other)])
    assert told.changes == [("mine", Weather("mine"))]
    mine.values["external_ids"] = {}
    feed.on_update([RowChange(mine, columns={"external_ids": {"type"}})])
    assert told.changes[1:] == [("mine", None)]
