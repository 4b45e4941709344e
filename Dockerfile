# The gateway as an image: `docker build -t drover .`, then
#
#   docker run --network host -v ./drover.yaml:/etc/drover/drover.yaml:ro --stop-timeout 630 drover
#
# A configuration must be mounted; its `listen` decides what is reachable (without host networking that is
# 0.0.0.0:8080 with API keys, and an admin address with a token). The stop timeout is the time that open
# streams get to finish after SIGTERM, longer than `timeouts.drain` (10 m by default); the engine's own default of 10 s cuts them.

FROM rust:1.95-slim-bookworm AS build
# cmake and a C++ compiler build zlib-ng, the C compiler builds ring.
RUN apt-get update \
    && apt-get install -y --no-install-recommends cmake g++ make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# .dockerignore keeps everything out that the build does not read.
COPY . .
# The caches belong to the builder, not to a layer: only the binary leaves this stage.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release --bin drover \
    && install -D target/release/drover /out/drover

FROM debian:bookworm-slim
# The certificates are for backends behind https.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --home-dir /var/lib/drover --create-home --shell /usr/sbin/nologin drover
COPY --from=build /out/drover /usr/local/bin/drover
# A number, so that an orchestrator can see that it is not root.
USER 10001:10001
# Relative paths of the configuration (the audit log) end up here.
WORKDIR /var/lib/drover
VOLUME /var/lib/drover
EXPOSE 8080 9090
STOPSIGNAL SIGTERM
# No HEALTHCHECK: the admin address that answers /livez and /readyz is the configuration's choice, and the image
# holds no HTTP client. Orchestrators probe it themselves.
ENTRYPOINT ["/usr/local/bin/drover"]
CMD ["serve", "--config", "/etc/drover/drover.yaml"]
