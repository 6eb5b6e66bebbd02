"""A web server that says which environment it was given, and starts a child of its own."""

import http.server
import json
import os
import subprocess
import sys


def main() -> None:
    child = subprocess.Popen(["sleep", "1000"])

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/crash":
                os._exit(3)
            seen = {"env": dict(os.environ), "args": sys.argv[1:], "child": child.pid, "pid": os.getpid()}
            body = json.dumps(seen).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", int(os.environ["RTX_PORT"])), Page)
    print("listening", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
