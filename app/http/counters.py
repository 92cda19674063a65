"""What one api process counts, as Prometheus metrics."""

from prometheus_client import CollectorRegistry, Counter, Histogram

SECONDS = (0.005, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


class Counters:
    """Counters of one api process, in a registry of their own so that tests can have several."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ["method", "route", "status"]
        self._requests = Counter(
            "topwork_http_requests", "Answered requests.", labels, registry=self.registry
        )
        self._seconds = Histogram(
            "topwork_http_seconds",
            "Seconds until the answer was sent.",
            ["method", "route"],
            buckets=SECONDS,
            registry=self.registry,
        )

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)
