# PyTorch on the CPU as Debian builds it (gloo), with the package `tractorun` and the YT client.
# For GPUs: your own image from `pytorch/pytorch`, see README.md.
ARG BASE=debian:12-slim

# The environment is made here, so that pip's own needs do not stay in the image.
FROM ${BASE} AS python
RUN apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends python3-venv
COPY images/python/yt.txt /build/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca,target=/build/ca.crt \
    python3 -m venv --system-site-packages /opt/venv \
 && if [ -s /build/ca.crt ]; then export PIP_CERT=/build/ca.crt; fi \
 && /opt/venv/bin/pip install --no-cache-dir --no-compile --no-deps --requirement /build/yt.txt \
 && find /opt/venv -name __pycache__ -prune -exec rm -rf {} +

FROM ${BASE}
LABEL org.opencontainers.image.title="tractorun torch" \
      org.opencontainers.image.description="PyTorch (CPU) and tractorun-init" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN apt-get -qq update \
 && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends python3-torch \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/fontconfig/* /var/cache/ldconfig/aux-cache /var/log/apt /var/log/*.log
COPY --from=python /opt/venv /opt/venv
COPY runtime/python/tractorun /opt/venv/lib/python3.11/site-packages/tractorun
COPY dist/tractorun-init /usr/local/bin/tractorun-init
ENV LANG=C.UTF-8 PATH=/opt/venv/bin:$PATH VIRTUAL_ENV=/opt/venv
RUN echo 'tractorun:x:1000:1000::/home/tractorun:/bin/bash' >>/etc/passwd \
 && echo 'tractorun:x:1000:' >>/etc/group \
 && install --directory --owner 1000 --group 1000 /home/tractorun \
 && tractorun-init save-env
USER 1000:1000
WORKDIR /home/tractorun
ENTRYPOINT ["/usr/local/bin/tractorun-init", "--"]
CMD ["/bin/bash"]
