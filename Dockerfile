# AdaptIS on a CPU.
#
#   docker build -t adaptis .
#   docker run --rm -v "$PWD:/data" adaptis predict /data/picture.png --out /data/results
#   docker run --rm -p 127.0.0.1:8000:8000 adaptis serve --host 0.0.0.0 --token auto
FROM python:3.11-slim

WORKDIR /opt/adaptis
COPY requirements.txt ./
RUN python -m pip install --no-cache-dir -r requirements.txt \
    && python -m pip install --no-cache-dir --no-deps gluoncv==0.10.5.post0
COPY . .
RUN python -m pip install --no-cache-dir -e ".[serve,onnx]" && adaptis doctor --fix

WORKDIR /data
ENTRYPOINT ["adaptis"]
CMD ["--help"]
