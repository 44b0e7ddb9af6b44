# The server over HTTP. compose.yaml starts it with Ollama.
FROM python:3.13-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src src
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --prefix=/installed '.[rag,ingest]'

FROM python:3.13-slim
COPY --from=build /installed /usr/local
RUN useradd --create-home --uid 10001 ollama-mcp && install -d -o ollama-mcp /data
USER 10001
WORKDIR /home/ollama-mcp
ENV OLLAMA_HOST=http://host.docker.internal:11434 OLLAMA_MCP_STORE=/data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=2)"]
ENTRYPOINT ["ollama-mcp"]
# Other machines may call: without OLLAMA_MCP_TOKEN or --token-file it does not start.
CMD ["serve", "--http", "0.0.0.0:8000"]
