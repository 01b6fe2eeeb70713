# One static binary on an empty image. Certificate authorities are compiled in (webpki-roots); nothing is written to disk
# but the inbox, if there is one, to its own volume.

FROM rust:1.95-alpine AS base
# ring, mimalloc and SQLite compile C; readelf is in there too. The rest is what scripts/release takes.
RUN apk add --no-cache bash build-base python3 && rustup component add llvm-tools

FROM base AS tools
RUN cargo install --locked --root /tools cargo-auditable@0.7.7 cargo-cyclonedx@0.5.9

FROM base AS source
COPY --from=tools /tools/bin/ /usr/local/cargo/bin/
WORKDIR /build
COPY Cargo.toml Cargo.lock config.example.toml ./
COPY .cargo .cargo
COPY benches benches
COPY scripts scripts
COPY src src

# The bill of materials alone: docker build --target sbom --output . .
FROM source AS bill
RUN cargo cyclonedx --quiet --format json --spec-version 1.5
FROM scratch AS sbom
COPY --from=bill /build/hookwarden.cdx.json /

FROM source AS build
ENV RUSTFLAGS="-C target-feature=+crt-static"
# The binary names the crates it is made of, for scanners to read; the bill of materials says more of them.
RUN scripts/release auditable && mv target/profiled/*/release/hookwarden .
# An image without a libc needs a binary that asks for none.
RUN readelf --dynamic --program-headers hookwarden > /tmp/elf && ! grep -E 'NEEDED|INTERP' /tmp/elf

FROM scratch
COPY --from=build /build/hookwarden /
COPY --from=bill /build/hookwarden.cdx.json /
USER 65532:65532
# For `run`, and for `health`, which learns from it where to ask.
ENV HOOKWARDEN_CONFIG=/etc/hookwarden/hookwarden.toml
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["/hookwarden", "health"]
ENTRYPOINT ["/hookwarden"]
CMD ["run"]
