#!/usr/bin/env bash
# What testssl.sh finds of a TLS listener: nothing above LOW. Protocols, ciphers, forward secrecy,
# what the server shows, and the known vulnerabilities; half a minute.
#
# Usage: tests/testssl.sh GATEWAY     the binary of a gateway
set -euo pipefail

gateway=$1
directory=$(mktemp -d)
pid=
trap 'if [ -n "$pid" ]; then kill "$pid" 2>/dev/null || true; fi; rm -rf "$directory"' EXIT

# An authority, and a certificate of it as a public one would be: testssl.sh judges it, too.
make_certificates() {
  openssl ecparam -name prime256v1 -genkey -noout -out ca.key
  openssl req -x509 -new -key ca.key -days 800 -subj '/CN=test authority' -out ca.pem \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
  openssl ecparam -name prime256v1 -genkey -noout -out key.pem
  openssl req -new -key key.pem -subj /CN=localhost -out request.pem
  cat >extensions <<END
subjectAltName=DNS:localhost
keyUsage=digitalSignature
extendedKeyUsage=serverAuth
crlDistributionPoints=URI:http://localhost/crl
END
  openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 200 \
    -extfile extensions -out certificate.pem 2>/dev/null
  cat certificate.pem ca.pem >chain.pem
}

start_gateway() {
  cat >ssecast.toml <<END
[admin]
address = "off"

[listen.secure]
address = "127.0.0.1:0"
tls = { certificate = "$directory/chain.pem", key = "$directory/key.pem" }

[channels.events]
path = "/events"
upstream = "http://127.0.0.1:1/"
END
  "$gateway" --log info serve --config ssecast.toml 2>log &
  pid=$!
  for _ in {1..200}; do
    port=$(sed -nE 's/.* listening address=127\.0\.0\.1:([0-9]+) .*/\1/p' log)
    [ -z "$port" ] || return 0
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.05
  done
  cat log
  echo 'testssl.sh: the gateway does not listen'
  return 1
}

# Fails unless there are findings, and none of them is above LOW.
judge() {
  python3 - findings.json <<'END'
import json, sys

findings = json.load(open(sys.argv[1]))
by_id = {finding["id"]: finding["finding"] for finding in findings}
bad = [f for f in findings if f["severity"] in ("MEDIUM", "HIGH", "CRITICAL", "FATAL")]
for finding in bad:
    print("{severity}: {id}: {finding}".format(**finding))
for protocol in ("TLS1_2", "TLS1_3"):
    if not by_id.get(protocol, "").startswith("offered"):
        bad.append(protocol)
        print(f"{protocol} was not found: {by_id.get(protocol)}")
n_good = sum(finding["severity"] == "OK" for finding in findings)
print(f"{len(findings)} findings, {n_good} of them good, {len(bad)} bad")
sys.exit(1 if bad or n_good < 20 else 0)
END
}

cd "$directory"
make_certificates
start_gateway
timeout --kill-after=10s 300 testssl --quiet --color 0 --warnings batch --nodns none \
  --add-ca ca.pem --jsonfile findings.json -p -s -f -S -U "localhost:$port" </dev/null >report ||
  status=$?
# testssl.sh exits with the number of what it found; the findings say what that was.
if [ ! -s findings.json ] || ! judge; then
  cat report
  echo "testssl.sh ended with ${status:-0}"
  exit 1
fi
