FROM base-services
# The ids may be those of another package's user already, whichever was set up first; nobody of these runs here.
RUN groupmod -o -g 1000 valkey && usermod -o -u 999 valkey && install -d -o valkey -g valkey /data
VOLUME /data
