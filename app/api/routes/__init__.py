"""One router for each noun of the API."""

from app.api.routes import (
    aliases,
    architectures,
    audit,
    datasets,
    exports,
    finetune,
    images,
    jobs,
    keys,
    models,
    predict,
    system,
    uploads,
    usage,
    versions,
)

ROUTERS = (
    finetune.router,
    predict.router,
    jobs.router,
    datasets.router,
    datasets.roomy,
    images.router,
    uploads.router,
    models.router,
    aliases.router,
    versions.router,
    exports.orders,
    exports.router,
    architectures.router,
    keys.router,
    usage.router,
    audit.router,
    system.router,
)
