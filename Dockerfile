# syntax=docker/dockerfile:1
# One small image with both programs: FROM scratch, no root, no shell. For amd64 and arm64:
#   docker buildx build --platform linux/amd64,linux/arm64 --build-arg VERSION=v1.2.3 --build-arg COMMIT=$(git rev-parse HEAD) .
# The same sources give the same programs, byte for byte.

# The compiler runs on the builder's own machine, and builds for the target's.
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
# Modules change less often than code.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=
ARG COMMIT=
ENV CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH
RUN build=github.com/leadgrid-sync/leadgrid-sync/internal/build && \
    go build -trimpath -buildvcs=false -ldflags "-s -w -buildid= -X $build.version=$VERSION -X $build.commit=$COMMIT" \
      -o /out/ ./cmd/receiver ./cmd/worker ./cmd/sandbox

# What both images hold besides the programs: whom to trust, and who they run as.
FROM scratch AS base
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
ENV PATH=/usr/local/bin
USER 65532:65532

# The stand-in LeadGrid, for compose.yaml: docker build --target sandbox .
FROM base AS sandbox
COPY --from=build /out/sandbox /usr/local/bin/
ENTRYPOINT ["sandbox"]

# The image: receiver and worker. Without a command it runs the worker.
FROM base
COPY --from=build /out/receiver /out/worker /usr/local/bin/
LABEL org.opencontainers.image.title="leadgrid-sync" \
      org.opencontainers.image.description="Keeps your own Postgres equal to what LeadGrid holds about your organization" \
      org.opencontainers.image.source="https://github.com/leadgrid-sync/leadgrid-sync"
CMD ["worker", "run"]
