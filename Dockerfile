# Three images from one file, one layer of dependencies shared by all:
#   docker build --target api .          HTTP, no torch
#   docker build --target worker-cpu .   jobs and predictor on CPUs
#   docker build --target worker-gpu .   the same with CUDA
# Docker 23 or newer builds them; there is no `# syntax` line, as it asks a registry at each build.
ARG PYTHON_IMAGE=python:3.12-slim-bookworm
ARG NODE_IMAGE=node:24-bookworm-slim

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
# The published image has its standard library without bytecode, and a read-only root keeps it so:
# every process would compile what it imports.
RUN python -m compileall -q -x '/(test|tests|site-packages)/' \
        "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
COPY --chmod=755 deploy/healthy /usr/local/bin/topwork-healthy
WORKDIR /srv

# The page, as files; nothing of Node.js comes into an image.
FROM ${NODE_IMAGE} AS page
WORKDIR /srv/web
COPY web/package.json web/package-lock.json ./
RUN --mount=type=cache,target=/cache npm ci --cache /cache --ignore-scripts --no-audit --no-fund
COPY web .
RUN npm run build

FROM base AS package
COPY pyproject.toml README.md LICENSE hatch_build.py ./
COPY app app
COPY --from=page /srv/app/static app/static
COPY core core
COPY models models
COPY topwork topwork
COPY worker worker
RUN --mount=type=cache,target=/cache \
    pip wheel --no-deps --wheel-dir /wheels . ./topwork

# Dependencies change seldom and the code changes often: they are layers of their own.
FROM base AS dependencies
ARG EXTRAS=postgres
RUN --mount=type=cache,target=/cache \
    --mount=type=bind,source=pyproject.toml,target=/mnt/pyproject.toml \
    --mount=type=bind,source=requirements.lock,target=/mnt/requirements.lock \
    --mount=type=bind,source=deploy/requirements.py,target=/mnt/requirements.py \
    python /mnt/requirements.py /mnt/pyproject.toml ${EXTRAS} > /tmp/wanted.txt \
    && pip install --constraint /mnt/requirements.lock --requirement /tmp/wanted.txt \
    && rm /tmp/wanted.txt

# Named is the build, not only its place: with that place away pip would take another build.
FROM dependencies AS torch-cpu
ARG TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu
RUN --mount=type=cache,target=/cache \
    --mount=type=bind,source=pyproject.toml,target=/mnt/pyproject.toml \
    --mount=type=bind,source=requirements.lock,target=/mnt/requirements.lock \
    --mount=type=bind,source=deploy/requirements.py,target=/mnt/requirements.py \
    --mount=type=bind,source=deploy/torch,target=/mnt/torch \
    python /mnt/requirements.py /mnt/pyproject.toml torch > /tmp/wanted.txt \
    && pip install --retries 1 --timeout 15 --constraint /mnt/requirements.lock \
        --extra-index-url "${TORCH_CPU_INDEX}" --requirement /mnt/torch/cpu.txt --requirement /tmp/wanted.txt \
    && rm /tmp/wanted.txt \
    || { echo "no torch +cpu: is ${TORCH_CPU_INDEX} reachable? TORCH_CPU_INDEX names a mirror" >&2; exit 1; } \
    && python -c 'import torch; assert torch.version.cuda is None, torch.__version__'

FROM dependencies AS torch-gpu
ARG TORCH_GPU_INDEX=https://download.pytorch.org/whl/cu130
RUN --mount=type=cache,target=/cache \
    --mount=type=bind,source=pyproject.toml,target=/mnt/pyproject.toml \
    --mount=type=bind,source=requirements.lock,target=/mnt/requirements.lock \
    --mount=type=bind,source=deploy/requirements.py,target=/mnt/requirements.py \
    --mount=type=bind,source=deploy/torch,target=/mnt/torch \
    python /mnt/requirements.py /mnt/pyproject.toml torch > /tmp/wanted.txt \
    && pip install --retries 1 --timeout 15 --constraint /mnt/requirements.lock \
        --extra-index-url "${TORCH_GPU_INDEX}" --requirement /mnt/torch/cu130.txt --requirement /tmp/wanted.txt \
    && rm /tmp/wanted.txt \
    || { echo "no torch +cu130: is ${TORCH_GPU_INDEX} reachable? TORCH_GPU_INDEX names a mirror" >&2; exit 1; } \
    && python -c 'import torch; assert torch.version.cuda is not None, torch.__version__'

FROM dependencies AS api
RUN --mount=type=bind,from=package,source=/wheels,target=/wheels \
    pip install --no-deps --no-index /wheels/*.whl
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=30s --start-period=3m --start-interval=5s \
    CMD ["topwork-healthy", "http", "8000"]
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
