"""Examples of the OpenAPI document: values of single fields, and schemas put together from them.

A field is looked up as `Schema.field`, then by its name alone. Words of enums, constants and parts
that are schemas themselves need no entry. A test validates every example, and names what has none.
"""

from typing import Any

_DATASET, _JOB = "ds_01k9z8v3q7m2c4d6e8f0g1", "job_01k9z8v3q7m2c4d6e8f0g2"
_KEY, _UPLOAD = "key_01k9z8v3q7m2c4d6e8f0g5", "up_01k9z8v3q7m2c4d6e8f0g6"
_HOOK, _VERSION = "wh_01k9z8v3q7m2c4d6e8f0g7", "mv_01k9z8v3q7m2c4d6e8f0g8"
_REQUEST = "req_01k9z8v3q7m2c4d6e8f0g4"
_SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_WEIGHTS = f"sha256:{_SHA256}"
_FILE = {"sha256": _SHA256, "size": 8_934_120}
_FEW = "24 images that did not train what answers for them are too few; 50 are needed"
_MATRIX = {"classes": ["cat", "dog"], "matrix": [[19, 1], [2, 18]]}
_SCORES = {"test": {"accuracy": 0.925, "macro_f1": 0.925, "ece": 0.031}}

# Shares, scores and counts of one evaluation on 40 images.
_FIELDS: dict[str, Any] = {
    **dict.fromkeys(("accuracy", "f1", "precision", "recall", "weighted"), 0.925),
    **dict.fromkeys(("confidence", "val_accuracy", "val_macro_f1"), 0.91),
    **dict.fromkeys(("ece", "ece_after", "new"), 0.031),
    **dict.fromkeys(("ece_before", "old"), 0.084),
    **dict.fromkeys(("low", "ceiling"), 0.8),
    **dict.fromkeys(("loss", "train_loss", "val_loss", "log_loss"), 0.214),
    **dict.fromkeys(("max_accuracy_drop", "max_class_drop", "limit", "max_ece"), 0.05),
    **dict.fromkeys(("images", "support"), 40),
    **dict.fromkeys(("broken", "left_out", "seq", "count", "k"), 2),
    **dict.fromkeys(("number", "version", "latest"), 3),
    **dict.fromkeys(("bytes", "length", "size", "stored_bytes"), 8_934_120),
    **dict.fromkeys(("at", "created_at"), "2026-11-22T09:30:00.000Z"),
    **dict.fromkeys(("url", "address"), "https://hooks.example.org/topwork"),
    **dict.fromkeys(("digest", "sha256"), _SHA256),
    **dict.fromkeys(("class", "label", "true"), "cat"),
    **dict.fromkeys(("path", "filename"), "cat/0001.jpg"),
    **dict.fromkeys(("code", "findings"), "near_duplicate"),
    **dict.fromkeys(("png", "overlay"), "iVBORw0KGgoAAAANSUhEUg..."),
    **dict.fromkeys(("left", "top"), 0.06),
    **dict.fromkeys(("right", "bottom"), 0.94),
    "action": "promote_version",
    "against": 2,
    "alias": "production",
    "aliases": {"production": 3},
    "alike": 40,
    "architecture": "mobilenet_v2",
    "attempts": 1,
    "auxiliary_heads": ["aux_classifier.1"],
    "base": 1,
    "bias": -0.42,
    "bytes_by_kind": {"datasets": 61_203_114, "models": 9_114_002},
    "card": {"architecture": "mobilenet_v2", "classes": ["cat", "dog"], "input": {"size": 224}},
    "cells": [[0, 0, 19], [0, 1, 1]],
    "change": 0.025,
    "checks": {"database": "ok", "storage": "ok", "broker": "ok", "predictor": "ok"},
    "classes": ["cat", "dog"],
    "counts": {"train": {"cat": 160, "dog": 160}, "test": {"cat": 20, "dog": 20}},
    "coverage": 0.95,
    "data": {"state": "running"},
    "dataset": _DATASET,
    "decision": "accept",
    "description": "Cats and dogs of the shelter.",
    "epoch": 4,
    "error": "The receiver answered 503.",
    "errors": [],
    "eta": 42.5,
    "event": "job.succeeded",
    "events": ["job.succeeded", "job.failed"],
    "examples": ["cat/0001.jpg", "cat/0002.jpg"],
    "confirm": [_SHA256],
    "exclude": [_SHA256],
    "explain": "heatmap",
    "explain_class": "cat",
    "explain_overlay": True,
    "expires_in_days": 90,
    "failures": 0,
    "family": "mobilenet",
    "files": {"weights.safetensors": _FILE},
    "first_id": "pets",
    "fixed": 3,
    "for": "worker",
    "format": "onnx",
    "gigaops": 0.3,
    "head": "classifier.1",
    "height": 768,
    "high": 0.97,
    "hint": "Send a complete JPEG, PNG, WebP, BMP, GIF, TIFF or AVIF file.",
    "images_per_second": 212.4,
    "ignore": ["drafts"],
    "index": 0,
    "input_size": 224,
    "interpolation": "bilinear",
    "job": _JOB,
    "key": _KEY,
    "kind": "finetune",
    "labels": ["labels.csv"],
    "label_column": "species",
    "last_id": "pets",
    "level": 0.95,
    "license": "https://creativecommons.org/licenses/by-nc/4.0/",
    "links": {"self": f"/jobs/{_JOB}"},
    "lost_classes": ["bird"],
    "lr": 0.01,
    "margin": 3.7,
    "matrix": [[19, 1], [2, 18]],
    "max_bytes": 10_000_000_000,
    "max_difference": 1.2e-06,
    "max_queued_jobs": 100,
    "mean": [0.485, 0.456, 0.406],
    "meaning": "The outer folder names the class: cat (12), dog (12).",
    "megabytes": 13.6,
    "message": "The file is not an image that can be decoded.",
    "metadata": {"ticket": "42"},
    "method": "cam",
    "metrics": _SCORES,
    "min_images": 20,
    "min_size": 32,
    "model": "pets",
    "name": "pets",
    "offset": 4_194_304,
    "oldest_seconds": 12.5,
    "other_path": "dog/0007.jpg",
    "owner": "anna",
    "paper": "https://arxiv.org/abs/1801.04381",
    "param": "file",
    "parameters": 3_504_872,
    "payload": {"type": "job.succeeded", "data": {"id": _JOB}},
    "phase": "training",
    "plan": {"epochs": {"value": 10, "reason": "the head alone converges quickly"}},
    "predicted": "dog",
    "preset": "IMAGENET1K_V2",
    "previous": 2,
    "progress": 0.4,
    "queue_position": 2,
    "queued": {"finetune": 2},
    "queued_jobs": 2,
    "report": {"held_out": {"images": 40, "alike": 40, "max_difference": 1.2e-06}},
    "reason": "the head alone converges quickly",
    "relabel": {_SHA256: "dog"},
    "request_id": _REQUEST,
    "resamples": 1000,
    "result": {"model": "pets@3"},
    "rule": "max_class_drop",
    "scopes": ["train"],
    "seconds": 3.2,
    "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "seed": 42,
    "severity": "warning",
    "similarity": 0.62,
    "slots": 1,
    "source": "own",
    "split": "test",
    "stage": "head",
    "starts_in": 40.0,
    "state": "ready",
    "states": {"running": 1, "queued": 2},
    "status": "ok",
    "std": [0.229, 0.224, 0.225],
    "temperature": 1.31,
    "test": ["test"],
    "title": "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
    "top1": 72.2,
    "top5": 90.6,
    "top_k": 3,
    "train": ["train"],
    "unknown": 1,
    "unsure": 1,
    "upload": _UPLOAD,
    "val": ["val"],
    "value": 10,
    "width": 1024,
    "wordnet_id": "n02123045",
    "Abstention.reason": _FEW,
    "AliasMove.id": 4,
    "AliasMove.kind": "promotion",
    "ApiKey.id": _KEY,
    "ApiKeyCreated.id": _KEY,
    "ApiKeyCreated.key": "tw_3x4mpl3.k3y-th4t-0p3ns-n0th1ng",
    "ApiKey.name": "laptop",
    "ApiKeyCreated.name": "laptop",
    "Architecture.name": "mobilenet_v2",
    "AuditEntry.address": "192.0.2.17",
    "AuditEntry.object": "models/pets/aliases/production",
    "AuditEntry.status": 201,
    "Change.old": 0.9,
    "Change.new": 0.925,
    "Change.low": -0.01,
    "Change.high": 0.06,
    "ClassChange.old": 0.9,
    "ClassChange.new": 0.95,
    "ClassChange.low": -0.05,
    "ClassChange.high": 0.15,
    "Comparison.new": 3,
    "Comparison.old": 2,
    "Dataset.id": _DATASET,
    "DatasetOrigin.id": _DATASET,
    "DatasetVersion.images": 360,
    "EvaluationRequest.dataset": f"{_DATASET}@1",
    "Event.kind": "state",
    "Image.findings": ["exif_rotated"],
    "Metrics.job": _JOB,
    "ModelVersion.digest": _WEIGHTS,
    "ModelVersion.id": _VERSION,
    "PredictedBy.classes": 2,
    "PredictedBy.digest": _WEIGHTS,
    "Rejection.reason": _FEW,
    "ReportLine.id": 7,
    "ReportLine.status": "rejected",
    "ReportLine.code": "not_an_image",
    "Suspect.finding": "label_suspect",
    "Suspect.likely": "dog",
    "Suspect.model": "pets@3",
    "Suspect.score": 0.97,
    "SplitRequest.test": 0.1,
    "SplitRequest.val": 0.2,
    "SplitShares.test": 0.1,
    "SplitShares.val": 0.2,
    "Upload.filename": "pets.zip",
    "Upload.id": _UPLOAD,
    "WaitingFor.reason": "no worker is there",
    "Webhook.id": _HOOK,
    "WebhookCreated.id": _HOOK,
    "WebhookDelivery.id": 7,
    "WebhookDelivery.message": "msg_01k9z8v3q7m2c4d6e8f0g9",
    "WebhookDelivery.state": "delivered",
    "WebhookDelivery.status": 204,
    "Weights.url": "https://download.pytorch.org/models/mobilenet_v2-7ebf99e0.pth",
    "Worker.id": "box-1/4711/3f9a",
    "WorkerJob.id": _JOB,
}
SCHEMAS = "#/components/schemas/"


def add(schemas: dict[str, Any]) -> None:
    """Give every schema an example, and every field that is no schema itself."""
    for name, schema in schemas.items():
        whole = schema.get("examples", [{}])[0]
        for field, about in schema.get("properties", {}).items():
            if "$ref" not in about and "const" not in about:
                shown = whole.get(field) or _of_field(name, field, about, schemas)
                about.setdefault("examples", [shown])
    for name, schema in schemas.items():
        schema.setdefault("examples", [_of_schema(name, schemas)])


def _of_schema(name: str, schemas: dict[str, Any]) -> Any:
    schema = schemas[name]
    if schema.get("examples"):
        return schema["examples"][0]
    if "enum" in schema:
        return schema["enum"][0]
    fields = schema.get("properties", {}).items()
    return {field: _of_field(name, field, about, schemas) for field, about in fields}


def _of_field(name: str, field: str, about: dict[str, Any], schemas: dict[str, Any]) -> Any:
    """Return the example of a field: for this schema, its own, that of its name or of its shape."""
    if f"{name}.{field}" in _FIELDS:
        return _FIELDS[f"{name}.{field}"]
    if about.get("examples"):
        return about["examples"][0]
    by_name = "additionalProperties" in about and field in _FIELDS
    found = None if by_name else _of_shape(about, schemas)
    return _FIELDS.get(field) if found is None else found


def _of_shape(about: dict[str, Any], schemas: dict[str, Any]) -> Any:
    """Return the example that a shape has by itself; null where only the field's name tells."""
    if about.get("examples"):
        return about["examples"][0]
    if "$ref" in about:
        return _of_schema(about["$ref"].removeprefix(SCHEMAS), schemas)
    if "const" in about or "enum" in about:
        return about["const"] if "const" in about else about["enum"][0]
    if about.get("type") == "boolean":
        return about.get("default", True)
    inner = about.get("items") or about.get("additionalProperties")
    if isinstance(inner, dict):
        one = _of_shape(inner, schemas)
        made = [one] if "items" in about else {"test": one}
        return None if one is None else made
    options = (_of_shape(option, schemas) for option in about.get("anyOf", []))
    return next((found for found in options if found is not None), None)
