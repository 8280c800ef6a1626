"""Real senders of PROXY headers: HAProxy with versions 1 and 2, TLS and health checks, and nginx. curl is in tests/live.

xchgd runs the plug-in of tests/live, which answers a line with what the header said.
"""

import os
import socket
import ssl
import tempfile
import unittest

from ops import BUILD, LIMIT, Server, program, run, unused_port, wait_until

PLUGIN = os.path.join(BUILD, "tests", "live", "plugin", "proxy.so")

HAPROXY = """
global
    maxconn 100
defaults
    mode tcp
    timeout connect 5s
    timeout client 20s
    timeout server 20s
listen v1
    bind 127.0.0.1:{v1}
    server a 127.0.0.1:{server} send-proxy
listen v2
    bind 127.0.0.1:{v2}
    bind [::1]:{v2}
    server a 127.0.0.1:{server} send-proxy-v2
listen over-unix
    bind unix@{folder}/in.sock
    server a 127.0.0.1:{server} send-proxy-v2
listen to-unix
    bind 127.0.0.1:{to_unix}
    server a unix@{folder}/out.sock send-proxy-v2
listen tls
    bind 127.0.0.1:{tls} ssl crt {folder}/both.pem
    unique-id-format %ci-%cp
    server a 127.0.0.1:{server} send-proxy-v2 proxy-v2-options ssl,cert-cn,ssl-cipher,cert-sig,cert-key,authority,crc32c,unique-id
"""

CHECKS = """
global
    maxconn 100
defaults
    mode tcp
    timeout connect 5s
    timeout client 20s
    timeout server 20s
listen checked
    bind 127.0.0.1:{front}
    server a 127.0.0.1:{server} send-proxy-v2 check inter 50ms
"""

NGINX = """
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
stream {{
    server {{
        listen 127.0.0.1:{front};
        listen [::1]:{front};
        proxy_pass 127.0.0.1:{server};
        proxy_protocol on;
    }}
}}
"""


def connectable(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Senders(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w") as out:
            out.write(text)
        return path

    def serve(self, proxy, **variables):
        return Server(XCHG_LISTEN=f"127.0.0.1:0;proxy={proxy},unix:{self.folder}/out.sock;proxy=v2", XCHG_PROXY_TRUST="127.0.0.1",
                      XCHG_STOP_GRACE="0", **variables)

    def ask(self, client):
        """The plug-in's answer: its words, and the client's own address."""
        with client:
            client.settimeout(LIMIT)
            client.sendall(b"?\n")
            name = client.getsockname()
            with client.makefile("r") as lines:
                answer = lines.readline()
        return answer.rstrip("\n").split(" "), name

    def connect(self, port, host="127.0.0.1"):
        return socket.create_connection((host, port), LIMIT)

    def test_haproxy(self):
        """HAProxy announces its client over IPv4 and IPv6, in both versions; TLS adds authority, id and cipher, all verified."""
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=sni.test", "-days", "1", "-keyout",
            f"{self.folder}/key.pem", "-out", f"{self.folder}/cert.pem")
        self.write("both.pem", open(f"{self.folder}/cert.pem").read() + open(f"{self.folder}/key.pem").read())
        ports = {name: unused_port() for name in ("v1", "v2", "tls", "to_unix")}
        with self.serve("any", XCHG_HANDLER=PLUGIN) as server:
            config = self.write("haproxy.cfg", HAPROXY.format(server=server.port, folder=self.folder, **ports))
            with program("haproxy", "-f", config, log="senders-haproxy.log"):
                wait_until(lambda: connectable(ports["to_unix"]), "HAProxy listens")
                for name, version in (("v1", "1"), ("v2", "2"), ("to_unix", "2")):
                    with self.subTest(name):
                        words, (host, port) = self.ask(self.connect(ports[name]))
                        self.assertEqual(words[:3] + words[4:6], [version, "0", f"{host}:{port}", f"{host}:{port}", f"127.0.0.1:{ports[name]}"])
                        self.assertEqual(words[3].split(":")[0], "unix" if name == "to_unix" else "127.0.0.1")
                words, name = self.ask(self.connect(ports["v2"], "::1"))
                self.assertEqual(words[2], f"[::1]:{name[1]}")
                client = socket.socket(socket.AF_UNIX)
                client.connect(f"{self.folder}/in.sock")
                words, _ = self.ask(client)
                self.assertEqual(words[:2], ["2", "1"])  # LOCAL, and it is served
                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                words, (host, port) = self.ask(context.wrap_socket(self.connect(ports["tls"]), server_hostname="sni.test"))
                self.assertEqual(words[2], f"{host}:{port}")
                self.assertEqual(words[6], "[sni.test]")
                self.assertEqual(words[7], f"[{host}-{port}]")
                self.assertEqual(words[8:10], ["1", "[TLSv1.3]"])
            totals = server.stop()
            self.assertEqual((totals["closed_proxy"], totals["closed_error"]), (0, 0))

    def test_checks(self):
        """Health checks of version 2 are finished, none of them looks like a lost client."""
        front = unused_port()
        with self.serve("v2", XCHG_MESSAGES="1") as server:
            config = self.write("haproxy.cfg", CHECKS.format(server=server.port, front=front))
            with program("haproxy", "-f", config, log="senders-checks.log"):
                server.wait_stats(lambda s: s["finished"] >= 10, "ten health checks")
            totals = server.stop()
            others = {key: value for key, value in totals.items() if key.startswith("closed_") and key != "closed_drain" and value != 0}
            self.assertEqual(others, {})

    def test_nginx(self):
        """nginx announces its client with version 1, over IPv4 and IPv6."""
        front = unused_port()
        with self.serve("v1", XCHG_HANDLER=PLUGIN) as server:
            config = self.write("nginx.conf", NGINX.format(server=server.port, folder=self.folder, front=front))
            with program("nginx", "-p", self.folder, "-c", config, log="senders-nginx.log"):
                wait_until(lambda: connectable(front), "nginx listens")
                words, (host, port) = self.ask(self.connect(front))
                self.assertEqual((words[0], words[1], words[2], words[5]), ("1", "0", f"{host}:{port}", f"127.0.0.1:{front}"))
                words, name = self.ask(self.connect(front, "::1"))
                self.assertEqual(words[2], f"[::1]:{name[1]}")
            server.stop()


if __name__ == "__main__":
    unittest.main()
