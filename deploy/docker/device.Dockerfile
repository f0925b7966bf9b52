# The device's side. Build in the checkout:
#   docker build --file deploy/docker/device.Dockerfile --target device --tag taper/device:0.1.0 .
#   docker build --file deploy/docker/device.Dockerfile --target agent --tag taper/agent:0.1.0 .
# device: client and library. agent: those, the agent of a fleet and the simulated fleet.
FROM python:3.11.11-slim-bookworm AS wheel
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
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
RUN groupadd --gid 10002 taper \
    && useradd --uid 10002 --gid taper --no-create-home --shell /usr/sbin/nologin taper \
    && install --directory --mode 1777 /data
LABEL org.opencontainers.image.vendor="taper" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/taper/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /data
# Clients and agents listen on nothing that could be asked; a service says in the compose file how
# its health shows.
HEALTHCHECK NONE
ENTRYPOINT ["python", "-m"]

FROM wheel AS device-packages
RUN deploy/docker/install-packages device.txt cloud device/agent device/fleet device/micro \
        device/simulate shared/layers shared/networks

FROM runtime AS device
LABEL org.opencontainers.image.title="taper device"
COPY --from=device-packages /opt/taper /opt/taper
USER 10002:10002
CMD ["device.client", "--help"]

# The same packages, and more.
FROM device-packages AS agent-packages
RUN deploy/docker/install-packages agent.txt cloud

FROM runtime AS agent
LABEL org.opencontainers.image.title="taper agent"
COPY --from=agent-packages /opt/taper /opt/taper
USER 10002:10002
CMD ["device.agent", "--help"]
