# Debian's package of npm brings hundreds of others, so npm is the one that it publishes itself.
FROM base-services
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
ENV NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt
ADD --checksum=sha256:9f58bff01604cb1b14008fef14dceb14d836a49225e45c6c2e37de3be3e707f0 https://registry.npmjs.org/npm/-/npm-11.19.1.tgz /tmp/
RUN mkdir /opt/npm && tar -C /opt/npm -xf /tmp/npm-*.tgz --strip-components 1 && ln -s /opt/npm/bin/npm-cli.js /usr/local/bin/npm
