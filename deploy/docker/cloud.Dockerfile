# The cloud's side. Build in the checkout:
#   docker build --file deploy/docker/cloud.Dockerfile --target cloud --tag taper/cloud:0.1.0 .
#   docker build --file deploy/docker/cloud.Dockerfile --target operations --tag taper/operations:0.1.0 .
#   docker build --file deploy/docker/cloud.Dockerfile --target ray --tag taper/ray:0.1.0 .
# cloud: the server. operations: the server, and recorder, scenario player and dashboard. ray: a node
# of a Ray cluster (docs/scaling.md). In this order, since some builders make all stages before a target.
FROM python:3.11.11-slim-bookworm AS wheel
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ libgrpc++-dev \
    && rm -rf /var/lib/apt/lists/*
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY deploy/requirements/build.txt deploy/requirements/build.txt
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes --no-deps \
        --requirement deploy/requirements/build.txt
COPY . .
# The back end itself: pip would fetch build tools, or compile once more for the metadata.
RUN TAPER_REQUIRE_NATIVE=1 PATH=/opt/build/bin:$PATH /opt/build/bin/python -c \
        'from scikit_build_core.build import build_wheel; build_wheel("/wheels")'

FROM python:3.11.11-slim-bookworm AS runtime
RUN groupadd --gid 10001 taper \
    && useradd --uid 10001 --gid taper --no-create-home --shell /usr/sbin/nologin taper \
    && install --directory --owner taper --group taper /data
LABEL org.opencontainers.image.vendor="taper" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/taper/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /data

FROM wheel AS cloud-packages
RUN deploy/docker/install-packages cloud.txt cloud/dashboard cloud/fleet cloud/telemetry \
        cloud/training device

FROM runtime AS cloud
# For --front native; without what comes along and is never loaded (9 MB).
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgrpc++1.51 \
    && rm -rf /var/lib/apt/lists/* \
    && rm /usr/lib/*-linux-gnu/libgrpc*_unsecure.* /usr/lib/*-linux-gnu/libgrpc++_reflection.* \
        /usr/lib/*-linux-gnu/libgrpcpp_channelz.* /usr/lib/*-linux-gnu/libgrpc_plugin_support.* \
        /usr/lib/*-linux-gnu/libprotoc.*
LABEL org.opencontainers.image.title="taper cloud"
COPY --from=cloud-packages /opt/taper /opt/taper
USER 10001:10001
EXPOSE 50051 9100
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s \
    CMD ["python", "-m", "cloud.health", "127.0.0.1:50051"]
CMD ["python", "-m", "cloud.server"]

# The same packages, and more.
FROM cloud-packages AS operations-packages
RUN deploy/docker/install-packages operations.txt

FROM runtime AS operations
LABEL org.opencontainers.image.title="taper operations"
COPY --from=operations-packages /opt/taper /opt/taper
USER 10001:10001
EXPOSE 8080 9101
# A recorder and a dashboard are asked at ports of their own, as in the compose file.
HEALTHCHECK NONE
CMD ["python", "-m", "cloud.fleet", "--help"]

FROM wheel AS ray-packages
RUN deploy/docker/install-packages ray.txt cloud/dashboard cloud/fleet cloud/telemetry \
        cloud/training device

FROM runtime AS ray
LABEL org.opencontainers.image.title="taper ray"
COPY --from=ray-packages /opt/taper /opt/taper
USER 10001:10001
EXPOSE 50051
# A node of a cluster has no server of its own to ask; Ray watches it.
HEALTHCHECK NONE
CMD ["ray", "start", "--help"]
