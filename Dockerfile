# syntax=docker/dockerfile:1
# Everything but GPU work: the UI, the daemon, the code location, runs, the gateway. Which of them is said by the command.
# A release pins the base by digest: --build-arg BASE=docker.io/library/python@sha256:…
ARG BASE=docker.io/library/python:3.11.10-slim-bookworm

FROM ${BASE} AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 SOURCE_DATE_EPOCH=315532800
WORKDIR /build
RUN python3 -m venv /opt/venv
# The packages are a layer of their own, which only another version of one changes: the project itself is left out.
COPY setup.py constraints.txt ./
RUN mkdir ettametta_pipelines && touch ettametta_pipelines/__init__.py \
 && /opt/venv/bin/python -m pip install --quiet --constraint constraints.txt '.[tracing]' \
 && rm -r /opt/venv/lib/python3*/site-packages/ettametta_pipelines

FROM ${BASE}
# OpenCV's libraries, and an init that passes signals on and buries orphans. ffmpeg comes with the package imageio-ffmpeg.
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends ca-certificates libgl1 libglib2.0-0 tini \
 && rm -rf /var/lib/apt/lists/* /var/log/* /var/cache/ldconfig
COPY --from=packages /opt/venv /opt/venv
WORKDIR /app
COPY dagster.yaml workspace.yaml ./
COPY k8s/base/gpu-pod.yaml k8s/base/
COPY ettametta_pipelines ettametta_pipelines
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    ETTAMETTA_HOME=/srv/ettametta DAGSTER_HOME=/srv/ettametta/dagster DAGSTER_DISABLE_TELEMETRY=yes HOME=/tmp
# Compiled here, since the root is read-only later; checked by content, so that the same source is the same file.
RUN python3 -m compileall -q --invalidation-mode checked-hash /app \
 && mkdir -p /srv/ettametta/dagster && chown -R 10001:10001 /srv/ettametta
USER 10001:10001
VOLUME ["/srv/ettametta", "/tmp"]
EXPOSE 3000 3030 8000
# Where nobody else looks, as Kubernetes' probes do: HEALTH_URL says what has to answer.
HEALTHCHECK --interval=30s --timeout=6s --start-period=60s CMD ["python3", "-c", \
  "import os, urllib.request as u; url = os.environ.get('HEALTH_URL'); url and u.urlopen(url, timeout=5)"]
ENTRYPOINT ["tini", "--"]
CMD ["ettametta", "--help"]
