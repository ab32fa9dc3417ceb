# A receiver for the webhook channel, for Python without packages. It prints each message.
# Start: SECRET=whsec_… python3 examples/webhook-receiver.py
import base64
import hmac
import http.server
import json
import os
import sys
import time

TOLERANCE_SECONDS = 300
try:
    key = base64.b64decode(os.environ.get('SECRET', '').removeprefix('whsec_'))
except ValueError:
    key = b''
if not key:
    print('usage: SECRET=whsec_… python3 examples/webhook-receiver.py', file=sys.stderr)
    sys.exit(2)


def is_genuine(headers, body):
    id, timestamp, signatures = (headers.get(f'webhook-{name}', '').encode()
                                 for name in ('id', 'timestamp', 'signature'))
    mac = hmac.digest(key, b'.'.join([id, timestamp, body]), 'sha256')
    expected = b'v1,' + base64.b64encode(mac)
    # Several signatures are present while the secret is being changed; one match is enough.
    is_signed = any([hmac.compare_digest(each, expected) for each in signatures.split()])
    return is_signed and abs(time.time() - int(timestamp)) <= TOLERANCE_SECONDS


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers['content-length']))
        genuine = is_genuine(self.headers, body)
        if genuine:
            print(json.loads(body), flush=True)
        self.send_response(204 if genuine else 403)
        self.end_headers()


try:
    address = ('127.0.0.1', int(os.environ.get('PORT', '8080')))
    server = http.server.ThreadingHTTPServer(address, Receiver)
except (OSError, OverflowError, ValueError) as error:
    sys.exit(f'{error}; set PORT to a free port')
server.serve_forever()
