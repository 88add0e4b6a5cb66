# Debian with tractorun-init as entrypoint: for commands that bring all they need.
ARG BASE=debian:12-slim
FROM ${BASE}
LABEL org.opencontainers.image.title="tractorun base" \
      org.opencontainers.image.description="bash and tractorun-init" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV LANG=C.UTF-8
COPY dist/tractorun-init /usr/local/bin/tractorun-init
RUN echo 'tractorun:x:1000:1000::/home/tractorun:/bin/bash' >>/etc/passwd \
 && echo 'tractorun:x:1000:' >>/etc/group \
 && install --directory --owner 1000 --group 1000 /home/tractorun \
 && tractorun-init save-env
USER 1000:1000
WORKDIR /home/tractorun
ENTRYPOINT ["/usr/local/bin/tractorun-init", "--"]
CMD ["/bin/bash"]
