# syntax=docker/dockerfile:1
# The device's side: client, agent, simulated fleet; no torch, no server. Build in the checkout:
#   docker build --file deploy/docker/device.Dockerfile --tag taper/device:0.1.0 .
FROM python:3.11.11-slim-bookworm AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY deploy/requirements/device.txt deploy/requirements/device.txt
RUN python -m venv /opt/taper \
    && /opt/taper/bin/pip install --no-cache-dir --require-hashes --no-deps \
        --requirement deploy/requirements/device.txt
COPY . .
RUN TAPER_REQUIRE_NATIVE=1 /opt/taper/bin/pip install --no-cache-dir --no-deps . \
    && rm -r /opt/taper/lib/python3.11/site-packages/cloud

FROM python:3.11.11-slim-bookworm
LABEL org.opencontainers.image.title="taper device" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10002 taper \
    && useradd --uid 10002 --gid taper --no-create-home --shell /usr/sbin/nologin taper \
    && install --directory --mode 1777 /data
COPY --from=build /opt/taper /opt/taper
ENV PATH=/opt/taper/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10002:10002
WORKDIR /data
# Clients and agents listen on nothing that could be asked; a service says in the compose file how
# its health shows.
HEALTHCHECK NONE
ENTRYPOINT ["python", "-m"]
CMD ["device.client", "--help"]
