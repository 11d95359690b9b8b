# Two images from one file; docs/deployment.md says what of it was run.
#
#   docker build --target server -t sc_jax-server .   a tail server, no training code
#   docker build --target tools -t sc_jax-tools .     exports heads and tails, runs heads
FROM python:3.11-slim AS wheel
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev
COPY . /src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /src

FROM python:3.11-slim AS server
COPY constraints.txt /
COPY --from=wheel /wheels /wheels
# sc_jax itself without its dependencies: flax, optax, orbax, grain and data sets are
# for training, and a tail file needs none of them. The rest is the extra `serve`.
RUN pip install --no-cache-dir -c /constraints.txt absl-py flatbuffers grpcio \
        grpcio-health-checking grpcio-reflection jax numpy prometheus-client \
    && pip install --no-cache-dir --no-deps /wheels/*.whl
# Compiled batch sizes stay here: mount a volume and the next start takes seconds.
ENV JAX_COMPILATION_CACHE_DIR=/cache
RUN mkdir /cache && chown nobody /cache
USER nobody
EXPOSE 50051 9464
ENTRYPOINT ["python", "-m", "launch.serve", "--host=0.0.0.0", "--metrics_port=9464"]
CMD ["--workdir=/tails/model.tail"]

FROM python:3.11-slim AS tools
COPY constraints.txt /
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir -c /constraints.txt \
        "sc_jax[export,serve] @ file://$(echo /wheels/*.whl)"
WORKDIR /work
ENTRYPOINT ["python", "-m"]
CMD ["launch.export", "--help"]
