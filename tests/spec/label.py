"""A build number for a llama-server: a proxy in front of it that changes `build_info` in `/props` and nothing else.

A second build of the same source takes a quarter of an hour and answers the same. Standard library only.
"""

import http.client
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

PIECE = 64 << 10


class Label:
    """Listens on a free loopback port until `stop`."""

    def __init__(self, target: str, build: str):
        self.points_at(target, build)
        handler = type("Handler", (Handler,), {"label": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def points_at(self, target: str, build: str) -> None:
        self.target = (urlsplit(target).netloc, build)

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    label: Label

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.relay(None)

    def do_POST(self):
        self.relay(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def relay(self, body):
        target, build = self.label.target
        upstream = http.client.HTTPConnection(target, timeout=120)
        try:
            upstream.request(self.command, self.path, body, {"Content-Type": "application/json"} if body else {})
            answer = upstream.getresponse()
        except OSError:
            self.close_connection = True
            return
        if self.path.split("?")[0] == "/props" and answer.status == 200:
            props = json.loads(answer.read())
            props["build_info"] = build
            self.whole(answer, json.dumps(props).encode())
        else:
            self.pieces(answer)
        upstream.close()

    def head(self, answer, name, value):
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
        self.send_header(name, value)
        self.end_headers()

    def whole(self, answer, body):
        self.head(answer, "Content-Length", str(len(body)))
        self.wfile.write(body)

    def pieces(self, answer):
        self.head(answer, "Transfer-Encoding", "chunked")
        while piece := answer.read1(PIECE):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")
