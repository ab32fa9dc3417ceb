# Requests a code for a user, reads it from standard input and verifies it. Needs Python 3 alone.
# Start: OTPD_URL=http://127.0.0.1:3000 python3 examples/call/otp.py person@example.com
import http.client, json, os, sys, time, urllib.error, urllib.request, uuid

URL = os.environ.get("OTPD_URL", "http://127.0.0.1:3000")


def post(path, body, attempts):
    """The key stays the same over all attempts: a repeat gets the answer that was lost."""
    headers = {"Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4())}
    if "OTPD_KEY" in os.environ:
        headers["Authorization"] = "Bearer " + os.environ["OTPD_KEY"]
    request = urllib.request.Request(URL + path, json.dumps(body).encode(), headers)
    for attempt in range(attempts):
        wait = 0.2 * 2 ** attempt
        try:
            with urllib.request.urlopen(request, timeout=4) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            if error.code not in (409, 503):
                return error.code, json.load(error)
            wait = max(wait, int(error.headers.get("Retry-After", 0)))
        except (OSError, http.client.HTTPException):
            pass
        if attempt + 1 < attempts:
            time.sleep(wait)
    return 503, {"error": "unavailable"}


if len(sys.argv) < 2 or not sys.argv[1]:
    print("usage: python3 examples/call/otp.py USER", file=sys.stderr)
    sys.exit(2)
pair = {"user_id": sys.argv[1], "purpose": "login"}
status, sent = post("/otp/request", pair, 5)
print("sent" if status == 201 else sent["error"], flush=True)
if status != 201:
    sys.exit(1)
for code in sys.stdin:
    # A wrong code counts each time that it arrives, so it is repeated once and no more.
    attempt = {**pair, "otp_id": sent["otp_id"], "code": code.strip()}
    status, answer = post("/otp/verify", attempt, 2)
    print("verified" if status == 200 else answer["error"], flush=True)
    if answer.get("error") != "invalid_code":
        sys.exit(0 if status == 200 else 1)
