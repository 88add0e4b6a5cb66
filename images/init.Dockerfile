# tractorun-init and nothing else: it needs no libc, no shell, no files. What an image of your own copies it from.
FROM scratch
LABEL org.opencontainers.image.title="tractorun-init" \
      org.opencontainers.image.description="tractorun-init alone, to copy from" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY dist/tractorun-init /tractorun-init
USER 1000:1000
ENTRYPOINT ["/tractorun-init"]
