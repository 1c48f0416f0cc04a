from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class Metrics:
    """The edge's own registry: what happened to requests and to clicks."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "lianyu_edge_requests", "Answers by status.", ["status"], registry=self.registry
        )
        self.stored = Counter(
            "lianyu_edge_clicks_stored", "Clicks committed to the database.", registry=self.registry
        )
        self.spooled = Counter(
            "lianyu_edge_clicks_spooled", "Clicks written to the spool file.", registry=self.registry
        )
        self.replayed = Counter(
            "lianyu_edge_clicks_replayed", "Spooled clicks brought home, each once.", registry=self.registry
        )
        self.database_up = Gauge(
            "lianyu_edge_database_up", "1 while the database answers.", registry=self.registry
        )
        self.links = Gauge("lianyu_edge_links", "Links known in memory.", registry=self.registry)
        self.seconds = Histogram(
            "lianyu_edge_redirect_seconds",
            "From request to redirect, the click's commit included.",
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2),
            registry=self.registry,
        )

        self._by_status: dict[int, Counter] = {}

    def answered(self, status: int) -> None:
        counter = self._by_status.get(status)
        if counter is None:
            counter = self._by_status[status] = self.requests.labels(status)
        counter.inc()

    def text(self) -> bytes:
        return generate_latest(self.registry)
