"""The numbers of /metrics."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tchatd.observe.metrics import OVERFLOW, SERIES_MAX, Metrics


def samples(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    text = metrics.render().decode()
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_counter_is_rendered_with_prefix_and_suffix() -> None:
    metrics = Metrics(process=False)
    metrics.counter("frames", "Frames sent.").add(3)
    assert samples(metrics) == {("tchatd_frames_total", ()): 3.0}


def test_children_of_a_labelled_counter_are_kept_apart() -> None:
    metrics = Metrics(process=False)
    commands = metrics.counter("commands", "Commands.", ("name", "outcome"))
    commands.labels("message.send", "ok").add()
    commands.labels("message.send", "ok").add()
    commands.labels("sync", "not_found").add()
    assert samples(metrics) == {
        ("tchatd_commands_total", ("message.send", "ok")): 2.0,
        ("tchatd_commands_total", ("sync", "not_found")): 1.0,
    }


def test_a_gauge_is_set_or_read_when_somebody_looks() -> None:
    metrics = Metrics(process=False)
    level = 1
    metrics.gauge("read", "Read.", lambda: level)
    metrics.gauge("set", "Set.").set(7)
    level = 2
    assert samples(metrics) == {("tchatd_read", ()): 2.0, ("tchatd_set", ()): 7.0}


def test_a_histogram_counts_a_value_on_its_bound_as_within() -> None:
    metrics = Metrics(process=False)
    histogram = metrics.histogram("sync_seconds", "Sync.", (0.5, 1.0))
    for value in (0.5, 0.75, 2.0):
        histogram.observe(value)
    assert samples(metrics) == {
        ("tchatd_sync_seconds_bucket", ("0.5",)): 1.0,
        ("tchatd_sync_seconds_bucket", ("1",)): 2.0,
        ("tchatd_sync_seconds_bucket", ("+Inf",)): 3.0,
        ("tchatd_sync_seconds_count", ()): 3.0,
        ("tchatd_sync_seconds_sum", ()): 3.25,
    }


def test_label_sets_beyond_the_limit_share_one_series() -> None:
    metrics = Metrics(process=False)
    counter = metrics.counter("requests", "Requests.", ("path",))
    for index in range(SERIES_MAX + 5):
        counter.labels(f"/{index}").add()
    counted = samples(metrics)
    assert len(counted) == SERIES_MAX + 1
    assert counted["tchatd_requests_total", (OVERFLOW,)] == 5.0


def test_a_name_is_declared_once() -> None:
    metrics = Metrics(process=False)
    metrics.counter("frames", "Frames.")
    with pytest.raises(AssertionError, match="twice"):
        metrics.gauge("tchatd_frames", "Frames.")


def test_the_process_is_measured_too() -> None:
    assert ("process_open_fds", ()) in samples(Metrics())
