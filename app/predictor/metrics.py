"""Prometheus metrics of the predictor."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
BATCHES = (1, 2, 4, 8, 16, 32, 64)


class Measures:
    """Counters of one predictor, in a registry of their own so that tests can have several."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.inside = Gauge(
            "topwork_predict_images_inside",
            "Images admitted and not yet answered.",
            registry=self.registry,
        )
        self.batch = Histogram(
            "topwork_predict_batch_images",
            "Images in one forward pass.",
            buckets=BATCHES,
            registry=self.registry,
        )
        self.requests = Counter(
            "topwork_predict_requests",
            "Answered requests by HTTP status.",
            ["status"],
            registry=self.registry,
        )
        self._images = Counter(
            "topwork_predict_images",
            "Images by outcome: ok or an error code.",
            ["outcome"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "topwork_predict_seconds",
            "Seconds per request by stage.",
            ["stage"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._loaded = Gauge("topwork_predictor_models", "Loaded models.", registry=self.registry)
        self._bytes = Gauge(
            "topwork_predictor_model_bytes", "Bytes of loaded models.", registry=self.registry
        )

    def image(self, outcome: str) -> None:
        """Count one image."""
        self._images.labels(outcome).inc()

    def spend(self, seconds: Mapping[str, float]) -> None:
        """Count the time of one request by stage."""
        for stage, duration in seconds.items():
            self._seconds.labels(stage).observe(duration)

    def models(self, loaded: int, nbytes: int) -> None:
        """Say how many models are loaded and how large they are together."""
        self._loaded.set(loaded)
        self._bytes.set(nbytes)

    def text(self) -> bytes:
        """Return the exposition format."""
        return generate_latest(self.registry)
