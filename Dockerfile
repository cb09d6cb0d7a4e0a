# Watchdog's image: one static program and nothing else (adr/0017-one-static-binary-from-scratch.md).
#
#   docker build -t sidecar-watchdog:0.1.0 .
#   docker build -t sidecar-watchdog-example:0.1.0 --target app .
#
# BINARY names what the last stages take their files from: the stage `build` below, or an image that
# already holds the output of deploy/build-image-root below /image (.ci/compose does that: no
# registry is needed then, and the stages that make the image are the same). BuildKit skips `build`
# when nothing asks for it.
ARG BINARY=build

# rust 1.95.0 on Debian 12: its glibc (2.36) carries "files" and "dns" name lookup inside, so a static
# program resolves names without any file in the image.
FROM rust:1.95.0-slim-bookworm@sha256:d7482085ff5b415f84dba5647ae71606650bdef00db7aeb69f4b3d170c3e4082 AS build
WORKDIR /src
COPY . .
RUN deploy/build-image-root /image

FROM ${BINARY} AS binary

# The example application of compose.yaml.
FROM scratch AS app
COPY --from=binary /image/app /app
USER 65532:65532
ENTRYPOINT ["/app"]

# The watchdog. The last stage: what `docker build .` makes.
FROM scratch AS watchdog
COPY --from=binary /image/watchdog /watchdog
# /state for the state file, /tmp for SQLite's scratch; both belong to the user the program runs as.
COPY --from=binary --chown=65532:65532 /image/own/ /
USER 65532:65532
# What is freed goes back to the system instead of staying for more of the same: a fifth less with 10,000 nodes.
ENV GLIBC_TUNABLES=glibc.malloc.arena_max=1:glibc.malloc.mmap_threshold=65536:glibc.malloc.trim_threshold=65536
# To publish the page, tell the program to listen beyond its own loopback (see compose.yaml).
EXPOSE 9106
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["/watchdog", "healthcheck"]
ENTRYPOINT ["/watchdog"]
CMD ["run"]
