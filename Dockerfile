# syntax=docker/dockerfile:1
# Three images from one file, one layer of dependencies shared by all:
#   docker build --target api .          HTTP, no torch
#   docker build --target worker-cpu .   jobs and predictor on CPUs
#   docker build --target worker-gpu .   the same with CUDA
ARG PYTHON_IMAGE=python:3.12-slim-bookworm

FROM ${PYTHON_IMAGE} AS base
LABEL org.opencontainers.image.title="Topwork" \
      org.opencontainers.image.description="Turns a folder of labelled images into a classifier behind HTTP" \
      org.opencontainers.image.source="https://github.com/topwork/topwork" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PIP_CACHE_DIR=/cache \
    TOPWORK_DATA_DIR=/data
# A volume mounted on /data takes over this owner.
RUN groupadd --gid 10001 topwork \
    && useradd --uid 10001 --gid topwork --no-create-home --home-dir /data topwork \
    && install --directory --owner topwork --group topwork --mode 0700 /data \
    && touch /etc/topwork-image
WORKDIR /srv

FROM base AS package
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY core core
COPY models models
COPY topwork topwork
COPY worker worker
RUN --mount=type=cache,target=/cache \
    pip wheel --no-deps --wheel-dir /wheels . ./topwork

# Dependencies change seldom and the code changes often: they are layers of their own.
FROM base AS dependencies
COPY pyproject.toml requirements.lock ./
RUN --mount=type=cache,target=/cache <<'SHELL'
set -e
python - > /tmp/wanted.txt <<'PYTHON'
import pathlib, tomllib
project = tomllib.loads(pathlib.Path("pyproject.toml").read_text())["project"]
needed = [*project["dependencies"], *project["optional-dependencies"]["postgres"]]
print(*(line for line in needed if not line.startswith("topwork-client")), sep="\n")
PYTHON
pip install --constraint requirements.lock --requirement /tmp/wanted.txt
rm /tmp/wanted.txt
SHELL

FROM dependencies AS torch-cpu
ARG TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu
RUN --mount=type=cache,target=/cache \
    pip install --constraint requirements.lock --extra-index-url ${TORCH_CPU_INDEX} torch torchvision

FROM dependencies AS torch-gpu
ARG TORCH_GPU_INDEX=https://download.pytorch.org/whl/cu130
RUN --mount=type=cache,target=/cache \
    pip install --constraint requirements.lock --extra-index-url ${TORCH_GPU_INDEX} torch torchvision

FROM dependencies AS api
RUN --mount=type=bind,from=package,source=/wheels,target=/wheels \
    pip install --no-deps --no-index /wheels/*.whl
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --start-interval=1s \
    CMD ["python", "-P", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
CMD ["python", "-P", "-m", "app.api.main", "--host", "0.0.0.0", "--port", "8000"]

FROM torch-cpu AS worker-cpu
RUN --mount=type=bind,from=package,source=/wheels,target=/wheels \
    pip install --no-deps --no-index /wheels/*.whl
USER 10001:10001
CMD ["python", "-P", "-m", "worker"]

FROM torch-gpu AS worker-gpu
RUN --mount=type=bind,from=package,source=/wheels,target=/wheels \
    pip install --no-deps --no-index /wheels/*.whl
USER 10001:10001
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
CMD ["python", "-P", "-m", "worker"]
