# As much of etcd's official image as docker-compose.yml uses.
FROM baton-trial/debian:bookworm
RUN apt-get update -q && apt-get install -q -y --no-install-recommends etcd-server etcd-client \
    && rm -rf /var/lib/apt/lists/* && ln -s /usr/bin/etcd /usr/bin/etcdctl /usr/local/bin/ && mkdir -p /var/lib/etcd
EXPOSE 2379 2380
CMD ["/usr/local/bin/etcd"]
