# otpd without npm, a shell or a compiler: see docs/deploy.md, "Containers".
FROM node:24-trixie-slim AS build
WORKDIR /build
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY tsconfig.json tsconfig.build.json ./
COPY src src
RUN npm run build
# What npm installs besides the packages of otpd: nodemailer@VERSION for the email channel.
ARG PACKAGES=""
# hadolint ignore=DL3016,SC2086
RUN npm ci --omit=dev && if [ -n "$PACKAGES" ]; then npm install --omit=dev $PACKAGES; fi
COPY openapi.json ./
COPY messages messages
COPY pages pages
COPY schema schema
# Readable for every account, whatever the umask of the checkout.
RUN mkdir /otpd \
  && cp -R dist messages node_modules openapi.json package.json pages schema /otpd \
  && chmod -R a+rX /otpd

FROM gcr.io/distroless/nodejs24-debian13:nonroot
COPY --from=build /otpd /opt/otpd
WORKDIR /opt/otpd
ENV NODE_ENV=production HOST=0.0.0.0 ADMIN_PORT=9464
EXPOSE 3000 9464
# As a number, which shows Kubernetes that it is not root.
USER 65532:65532
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["/nodejs/bin/node", \
  "-e", \
  "fetch(`http://127.0.0.1:${process.env.ADMIN_PORT}/readyz`).then((reply) => process.exit(reply.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["/nodejs/bin/node", "dist/main.js"]
CMD ["serve"]
