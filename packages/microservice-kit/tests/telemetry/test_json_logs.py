import io
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microservice_kit import JsonFormatter, json_logs


def record(message: str, *arguments: object, **extra: object) -> logging.LogRecord:
    log_record = logging.LogRecord("shop", logging.WARNING, "f.py", 1, message, arguments, None)
    vars(log_record).update(extra)
    return log_record


def test_a_line_says_when_how_bad_who_and_what() -> None:
    line = json.loads(JsonFormatter(service="orders").format(record("%d left", 3, order="7")))
    assert line["time"].endswith("+00:00")
    assert (line["level"], line["logger"], line["message"]) == ("warning", "shop", "3 left")
    assert (line["service"], line["order"]) == ("orders", "7")
    assert "trace_id" not in line


@given(st.text(), st.text())
def test_every_line_is_one_line_of_json(message: str, extra: str) -> None:
    line = JsonFormatter().format(record("%s", message, note=extra))
    assert "\n" not in line
    assert json.loads(line)["message"] == message[:8192]


def test_an_extra_field_cannot_take_the_place_of_a_known_one() -> None:
    assert json.loads(JsonFormatter().format(record("true", level="lie")))["level"] == "warning"


def test_texts_are_bounded_and_objects_are_shown_as_text() -> None:
    line = json.loads(JsonFormatter().format(record("x" * 100_000, thing=object())))
    assert len(line["message"]) == 8192
    assert line["thing"].startswith("<object")


def test_an_exception_is_told_by_its_end() -> None:
    stream = io.StringIO()
    handler = json_logs(stream=stream)
    root = logging.getLogger()
    try:
        try:
            int("x" * 5000 + " ")
        except ValueError:
            logging.getLogger("shop").exception("no")
    finally:
        root.removeHandler(handler)
        root.setLevel(logging.WARNING)
    line = json.loads(stream.getvalue())
    assert line["message"] == "no"
    assert 100 < len(line["exception"]) <= 8192


@pytest.mark.parametrize("level", ["INFO", logging.INFO])
def test_the_root_logger_is_set_up_and_can_be_undone(level: str | int) -> None:
    root, before = logging.getLogger(), logging.getLogger().level
    handler = json_logs(level)
    assert handler in root.handlers
    assert root.level == logging.INFO
    root.removeHandler(handler)
    root.setLevel(before)


def test_a_server_s_own_lines_become_json_as_well() -> None:
    stream = io.StringIO()
    server_logger = logging.getLogger("uvicorn.access")
    server_logger.addHandler(logging.StreamHandler(plain := io.StringIO()))
    server_logger.propagate = False
    root = logging.getLogger()
    handler = json_logs(level_before := root.level, stream=stream)
    try:
        server_logger.warning("%s - %d", "GET /", 200, extra={"color_message": "[1mGET"})
    finally:
        root.removeHandler(handler)
    assert root.level == level_before
    line = json.loads(stream.getvalue())
    assert (line["logger"], line["message"]) == ("uvicorn.access", "GET / - 200")
    assert "color_message" not in line
    assert plain.getvalue() == ""
