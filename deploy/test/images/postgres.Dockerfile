FROM base-services
RUN groupmod -o -g 70 postgres && usermod -o -u 70 postgres && rm -rf /var/lib/postgresql \
    && install -d -o postgres -m 1777 /var/lib/postgresql && install -d -o postgres -m 3777 /run/postgresql \
    && ln -s /usr/lib/postgresql/*/bin/* /usr/local/bin/
# What the published image does with these variables: a cluster and a database at the first start, then the server.
COPY --chmod=755 <<'SCRIPT' /entrypoint
#!/bin/sh
set -e
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    mkdir -p "$PGDATA"
    initdb --username "$POSTGRES_USER" --pwfile "$POSTGRES_PASSWORD_FILE" --locale C.UTF-8 --encoding UTF8 \
        --auth-local trust --auth-host scram-sha-256
    echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
    pg_ctl -w start -o '-c listen_addresses='
    createdb --username "$POSTGRES_USER" "$POSTGRES_DB"
    pg_ctl -w stop
fi
exec "$@" -c 'listen_addresses=*'
SCRIPT
ENV PGDATA=/var/lib/postgresql/18/docker
STOPSIGNAL SIGINT
VOLUME /var/lib/postgresql
ENTRYPOINT ["/entrypoint"]
CMD ["postgres"]
