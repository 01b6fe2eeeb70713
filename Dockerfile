# One static binary on an empty image. Certificate authorities are compiled in (webpki-roots); nothing is written to disk
# but the inbox, if there is one, to its own volume.

FROM rust:1.95-alpine AS build
# ring, mimalloc and SQLite compile C; readelf is in there too.
RUN apk add --no-cache build-base
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY src src
ENV RUSTFLAGS="-C target-feature=+crt-static"
RUN cargo build --release --locked --bin hookwarden
# An image without a libc needs a binary that asks for none.
RUN readelf --dynamic --program-headers target/release/hookwarden > /tmp/elf && ! grep -E 'NEEDED|INTERP' /tmp/elf

FROM scratch
COPY --from=build /build/target/release/hookwarden /hookwarden
USER 65532:65532
# For `run`, and for `health`, which learns from it where to ask.
ENV HOOKWARDEN_CONFIG=/etc/hookwarden/hookwarden.toml
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["/hookwarden", "health"]
ENTRYPOINT ["/hookwarden"]
CMD ["run"]
