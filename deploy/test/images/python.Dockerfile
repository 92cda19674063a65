FROM base-python
RUN rm -f /usr/lib/python3*/EXTERNALLY-MANAGED
COPY . /index
RUN mv /index/pip.conf /etc/pip.conf
