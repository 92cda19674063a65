# Debian does not have Versity's program: the S3 server of our tests stands in its place and takes its words.
FROM python:3.12-slim-bookworm
RUN pip install --no-cache-dir --constraint /index/requirements.lock 'moto[server]' \
    && apt-get update -qq && apt-get install -qq -y --no-install-recommends wget \
    && install -m 755 /index/bucket.py /usr/local/bin/versitygw
