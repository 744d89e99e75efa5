# The image of serval: built from source, nothing but the binary in it.
# Static linking, capabilities and the size check come with the edge release (CHANGELOG.md).
FROM rust:1.95-slim AS build
WORKDIR /serval
COPY . .
ENV RUSTFLAGS="-C target-feature=+crt-static"
RUN cargo build --locked --release --target x86_64-unknown-linux-gnu

FROM scratch
COPY --from=build /serval/target/x86_64-unknown-linux-gnu/release/serval /serval
USER 65532:65532
ENTRYPOINT ["/serval"]
