# As much of Docker's official python:3.11-slim as Baton's Dockerfile uses.
FROM baton-trial/debian:bookworm
RUN apt-get update -q && apt-get install -q -y --no-install-recommends ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* && ln -s /usr/bin/python3 /usr/local/bin/python3 && ln -s python3 /usr/local/bin/python
CMD ["python3"]
