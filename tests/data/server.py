"""A server of shards on 127.0.0.1 that counts what it sends, and may answer badly."""

import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server:
    """Serves the files of a folder.

    Args:
        folder: What it serves.
        answers: By path: what each of the first requests gets, or one answer for all requests: an error's number, "cut"
            (half the bytes), "short" (half, without saying how many come), "html" (a page, with status 200), "empty",
            "other" (another file of the same size), "stall" (half, then nothing), "drip" (byte by byte for three
            seconds), "more" (a file that goes on).
    """

    def __init__(self, folder, answers=None):
        self.folder = folder
        self.answers = answers or {}
        self.asked = []
        self.sent = Counter()  # whole bodies, by path
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"server_of": self}))
        self.http.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()

    @property
    def shards_asked(self):
        """Paths of the shards, in the order in which they were asked for."""
        return [path for path in self.asked if path.endswith(".tar")]

    def answer(self, path):
        given = self.answers.get(path, [])
        return (given.pop(0) if given else 200) if isinstance(given, list) else given


class _Handler(BaseHTTPRequestHandler):
    server_of = None

    def do_GET(self):
        self.server_of.asked.append(self.path)
        path, answer = self.server_of.folder / self.path.lstrip("/"), self.server_of.answer(self.path)
        if (isinstance(answer, int) and answer != 200) or not path.exists():
            self.send_error(404 if answer == 200 else answer)
            return
        body = path.read_bytes()
        if answer == "html":
            body = b"<html>Please log in</html>" * 400
        if answer == "other":
            body = bytes([body[600] ^ 1]).join([body[:600], body[601:]])
        said = {"empty": 0, "more": None, "short": None}.get(answer, len(body))
        self.send_response(200)
        if said is not None:
            self.send_header("Content-Length", str(said))
        self.end_headers()
        half = body[: len(body) // 2]
        try:
            if answer in ("cut", "short", "stall"):
                self.wfile.write(half)
                if answer == "stall":
                    time.sleep(3)
            elif answer == "drip":
                for byte in body[:150]:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    time.sleep(0.02)
                self.wfile.write(body[150:])
            elif answer == "more":
                for _ in range(20):
                    self.wfile.write(body)
            elif answer != "empty":
                self.wfile.write(body)
                self.server_of.sent[self.path] += len(body)
        except OSError:  # the other side has had enough
            pass

    def log_message(self, *args):
        pass
