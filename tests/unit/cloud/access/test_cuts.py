"""What the log says of connections that were cut."""

from __future__ import annotations

from structlog.testing import capture_logs

from cloud.access.cuts import LOG_S, CutConnections


def test_the_first_cut_is_logged_at_once_and_later_ones_are_summed_up() -> None:
    cuts = CutConnections()
    with capture_logs() as lines:
        cuts.log(0.0)
        cuts.note(1, "10.0.0.7:50312", "has too many streams")
        cuts.log(1.0)
        for port in range(1000):
            cuts.note(2, f"10.0.0.8:{port}", "sent much that is no request")
            cuts.note(0, "", "")
            cuts.log(1.0 + LOG_S * port / 1000)
        cuts.log(1.0 + LOG_S)
        cuts.log(9.0 + LOG_S)
    assert [(line["count"], line["peer"]) for line in lines] == [
        (1, "10.0.0.7:50312"),
        (2000, "10.0.0.8:999"),
    ]
    assert [line["fault"] for line in lines] == [
        "has too many streams",
        "sent much that is no request",
    ]
    assert {line["log_level"] for line in lines} == {"warning"}
