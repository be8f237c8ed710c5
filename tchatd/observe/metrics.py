"""Owns the numbers seen from outside (`/metrics`); refuses to measure by itself.

Adding to a counter or observing a value costs a few plain operations on Python ints:
everything lives on the one Trio thread, so there is no lock. A worker thread must
hand its numbers over (`trio.from_thread`) or keep them where `read` finds them.
Text is made by prometheus_client's exposition, only when somebody asks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SERIES_MAX = 1_000  # label sets a metric may have; the ones beyond share OVERFLOW
OVERFLOW = "_other"

# Upper bounds in seconds; from a cached answer to a request nobody waits for.
LATENCY_BUCKETS_S: tuple[float, ...] = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025),
    *(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
# Upper bounds of how many things went together: powers of two up to 16,384.
BATCH_BUCKETS: tuple[float, ...] = tuple(float(1 << power) for power in range(15))


class Counter:
    """A total that only grows. `labels` gives the child to keep and add to."""

    __slots__ = ("_children", "_label_names", "read", "value")

    def __init__(
        self, labels: tuple[str, ...] = (), read: Callable[[], float] | None = None
    ) -> None:
        self._label_names = labels
        self._children: dict[tuple[str, ...], Counter] = {}
        self.read = read
        self.value: float = 0

    def add(self, count: float = 1) -> None:
        self.value += count

    def labels(self, *values: str) -> Counter:
        key = _bounded(self._children, self._label_names, values)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = Counter()
        return child

    def series(self) -> Iterator[tuple[tuple[str, ...], float]]:
        if not self._label_names:
            yield (), self.value if self.read is None else self.read()
        for key, child in self._children.items():
            yield key, child.value if child.read is None else child.read()


class Gauge:
    """A level. It is set, or asked for by `read` when somebody looks."""

    __slots__ = ("_children", "_label_names", "read", "value")

    def __init__(
        self, labels: tuple[str, ...] = (), read: Callable[[], float] | None = None
    ) -> None:
        self._label_names = labels
        self._children: dict[tuple[str, ...], Gauge] = {}
        self.read = read
        self.value: float = 0

    def set(self, value: float) -> None:
        self.value = value

    def add(self, count: float = 1) -> None:
        self.value += count

    def labels(self, *values: str) -> Gauge:
        key = _bounded(self._children, self._label_names, values)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = Gauge()
        return child

    def series(self) -> Iterator[tuple[tuple[str, ...], float]]:
        if not self._label_names:
            yield (), self.value if self.read is None else self.read()
        for key, child in self._children.items():
            yield key, child.value if child.read is None else child.read()


class Histogram:
    """How often a value was at most each bound. counts[-1]: above all of them."""

    __slots__ = ("_children", "_label_names", "bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float], labels: tuple[str, ...] = ()) -> None:
        assert list(bounds) == sorted(set(bounds))
        assert bounds
        self._label_names = labels
        self._children: dict[tuple[str, ...], Histogram] = {}
        self.bounds = tuple(float(bound) for bound in bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total: float = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def labels(self, *values: str) -> Histogram:
        key = _bounded(self._children, self._label_names, values)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = Histogram(self.bounds)
        return child

    def series(self) -> Iterator[tuple[tuple[str, ...], Histogram]]:
        if not self._label_names:
            yield (), self
        yield from self._children.items()

    def cumulative(self) -> list[tuple[str, float]]:
        """(upper bound, how many were at most it), the last one being `+Inf`."""
        names = [_bound_name(bound) for bound in self.bounds] + ["+Inf"]
        running, pairs = 0, []
        for name, count in zip(names, self.counts, strict=True):
            running += count
            pairs.append((name, float(running)))
        return pairs


class Metrics(Collector):
    """All metrics of one process. A name is declared once.

    Names carry no `tchatd_` prefix and a counter's none of `_total`: both are added.
    """

    def __init__(self, *, process: bool = True) -> None:
        self._declared: dict[str, tuple[str, tuple[str, ...], object]] = {}
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        if process:
            ProcessCollector(registry=self._registry)

    def counter(
        self,
        name: str,
        help: str,
        labels: tuple[str, ...] = (),
        *,
        read: Callable[[], float] | None = None,
    ) -> Counter:
        counter = Counter(labels, read)
        self._declare(name, help, labels, counter)
        return counter

    def gauge(
        self,
        name: str,
        help: str,
        read: Callable[[], float] | None = None,
        labels: tuple[str, ...] = (),
    ) -> Gauge:
        gauge = Gauge(labels, read)
        self._declare(name, help, labels, gauge)
        return gauge

    def histogram(
        self,
        name: str,
        help: str,
        buckets: Sequence[float] = LATENCY_BUCKETS_S,
        labels: tuple[str, ...] = (),
    ) -> Histogram:
        histogram = Histogram(buckets, labels)
        self._declare(name, help, labels, histogram)
        return histogram

    def render(self) -> bytes:
        """The Prometheus text format, version 0.0.4."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        for name, (help_text, labels, metric) in self._declared.items():
            yield _family(name, help_text, labels, metric)

    def _declare(
        self, name: str, help: str, labels: tuple[str, ...], metric: object
    ) -> None:
        full = name if name.startswith("tchatd_") else f"tchatd_{name}"
        full = full.removesuffix("_total")
        assert full not in self._declared, f"metric {full} is declared twice"
        self._declared[full] = (help, labels, metric)


def _bounded(
    children: Mapping[tuple[str, ...], object],
    names: tuple[str, ...],
    values: tuple[str, ...],
) -> tuple[str, ...]:
    """The key of a label set; the shared one when there are too many already."""
    assert len(values) == len(names), f"labels are {names}, got {len(values)}"
    if values in children or len(children) < SERIES_MAX:
        return values
    return (OVERFLOW,) * len(names)


def _family(name: str, help: str, labels: tuple[str, ...], metric: object) -> Metric:
    if isinstance(metric, Counter):
        counters = CounterMetricFamily(name, help, labels=labels)
        for key, value in metric.series():
            counters.add_metric(key, value)
        return counters
    if isinstance(metric, Gauge):
        gauges = GaugeMetricFamily(name, help, labels=labels)
        for key, value in metric.series():
            gauges.add_metric(key, value)
        return gauges
    assert isinstance(metric, Histogram)
    histograms = HistogramMetricFamily(name, help, labels=labels)
    for key, child in metric.series():
        histograms.add_metric(key, child.cumulative(), child.total)
    return histograms


def _bound_name(bound: float) -> str:
    return f"{bound:g}" if bound < 1e6 else repr(bound)
