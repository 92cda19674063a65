FROM base-services
RUN groupmod -g 1000 valkey && usermod -u 999 valkey && install -d -o valkey -g valkey /data
VOLUME /data
