# The historical-api and its sql-worker: docker build -f deploy/docker/historical-api.Dockerfile .
# The context is the repository's root. Unlike the other services' it is built on the platform that it runs on: the SQL engine (DuckDB) comes as a static C++
# library, which is linked with the platform's own compiler and needs its C library at run time.
ARG GO_IMAGE=golang:1.26.8-bookworm

FROM ${GO_IMAGE} AS build
ARG SERVICE=historical-api
ENV GOWORK=off GOFLAGS=-mod=readonly
WORKDIR /src
COPY proto proto
COPY pkg pkg
COPY services services
COPY deploy/docker/healthcheck deploy/docker/healthcheck
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 go build -C "services/$SERVICE" -trimpath -ldflags="-s -w" -o /out/service "./cmd/$SERVICE" && \
    CGO_ENABLED=1 go build -C "services/$SERVICE" -trimpath -ldflags="-s -w" -o /out/sql-worker ./cmd/sql-worker && \
    CGO_ENABLED=0 go build -C deploy/docker/healthcheck -trimpath -ldflags="-s -w" -o /out/healthcheck . && \
    install -d -m 0755 /out/data

# As static-debian12, with glibc and libstdc++. The user is 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
ARG SERVICE=historical-api
LABEL org.opencontainers.image.title="tocsin-${SERVICE}" \
      org.opencontainers.image.source="https://github.com/tocsin-io/tocsin" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/service /out/sql-worker /out/healthcheck /usr/local/bin/
COPY --from=build --chown=65532:65532 /out/data /var/lib/tocsin
USER 65532:65532
WORKDIR /var/lib/tocsin
ENTRYPOINT ["/usr/local/bin/service"]
CMD ["--config", "/etc/tocsin/tocsin.yaml"]
