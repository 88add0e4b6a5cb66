# tractorun-init and nothing else: it needs no libc, no shell, no files. A base to copy from:
#   COPY --from=tractorun-init:scratch /tractorun-init /usr/local/bin/tractorun-init
FROM scratch
COPY tractorun-init /tractorun-init
ENTRYPOINT ["/tractorun-init"]
