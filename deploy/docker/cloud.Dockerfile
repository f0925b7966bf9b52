# syntax=docker/dockerfile:1
# The cloud's side: server, fleet controller, dashboard. Build in the checkout:
#   docker build --file deploy/docker/cloud.Dockerfile --tag taper/cloud:0.1.0 .
FROM python:3.11.11-slim-bookworm AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY deploy/requirements/cloud.txt deploy/requirements/cloud.txt
RUN python -m venv /opt/taper \
    && /opt/taper/bin/pip install --no-cache-dir --require-hashes --no-deps \
        --requirement deploy/requirements/cloud.txt
COPY . .
RUN TAPER_REQUIRE_NATIVE=1 /opt/taper/bin/pip install --no-cache-dir --no-deps .

FROM python:3.11.11-slim-bookworm
LABEL org.opencontainers.image.title="taper cloud" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 taper \
    && useradd --uid 10001 --gid taper --no-create-home --shell /usr/sbin/nologin taper \
    && install --directory --owner taper --group taper /data
COPY --from=build /opt/taper /opt/taper
ENV PATH=/opt/taper/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /data
EXPOSE 50051 9100 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s \
    CMD ["python", "-m", "cloud.health", "127.0.0.1:50051"]
CMD ["python", "-m", "cloud.server"]
