# The image of serval: built from source, nothing but the static binary in it. tests/image checks the
# last stage: size, user, and that the binary keeps its file capability.
FROM rust:1.95-slim AS build
RUN apt-get update && \
    apt-get install --yes --no-install-recommends file libcap2-bin && \
    rm -rf /var/lib/apt/lists/*
WORKDIR /serval
COPY . .
RUN scripts/build-static /image/serval

FROM scratch
COPY --from=build /image/serval /serval
USER 65532:65532
ENTRYPOINT ["/serval"]
