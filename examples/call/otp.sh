#!/bin/sh
# Requests a code for a user, reads it from standard input and verifies it. Needs curl 7.71.
# Start: OTPD_URL=http://127.0.0.1:3000 sh examples/call/otp.sh person@example.com
# The user must not contain a quote or a backslash, because this writes JSON without escapes.
set -u
[ -n "${1-}" ] || { echo 'usage: sh examples/call/otp.sh USER' >&2; exit 2; }
url=${OTPD_URL:-http://127.0.0.1:3000}
pair="\"user_id\":\"$1\",\"purpose\":\"login\""

# post PATH BODY CURL-OPTIONS. The key stays the same when curl repeats the request. Body and keys
# are not passed as parameters, because every user of the machine can read those.
post() {
  printf '%s' "$2" | curl -sS --max-time 4 --retry-max-time 10 $3 --data-binary @- \
    -H @/dev/fd/3 "$url$1" 3<<EOF
Content-Type: application/json
Idempotency-Key: $(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
${OTPD_KEY:+Authorization: Bearer $OTPD_KEY}
EOF
}

sent=$(post /otp/request "{$pair}" '--retry 4 --retry-all-errors')
id=$(printf '%s' "$sent" | sed -n 's/.*"otp_id":"\([0-9a-f]*\)".*/\1/p')
[ -n "$id" ] || { printf '%s\n' "$sent"; exit 1; }
echo sent
while read -r code; do
  # A wrong code counts each time that it arrives, so it is repeated once and no more.
  answer=$(post /otp/verify "{$pair,\"otp_id\":\"$id\",\"code\":\"$code\"}" \
    '--retry 1 --retry-all-errors')
  case $answer in
    *'"success":true'*) echo verified; exit 0 ;;
    *'"invalid_code"'*) echo invalid_code ;;
    *) printf '%s\n' "$answer"; exit 1 ;;
  esac
done
