# As much of Prometheus' official image as docker-compose.yml uses. Debian's binary is /bin/prometheus as well.
FROM baton-trial/debian:bookworm
RUN apt-get update -q && apt-get install -q -y --no-install-recommends prometheus wget && rm -rf /var/lib/apt/lists/* \
    && mkdir -p /prometheus && chown nobody:nogroup /prometheus
USER nobody
WORKDIR /prometheus
EXPOSE 9090
ENTRYPOINT ["/bin/prometheus"]
CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
