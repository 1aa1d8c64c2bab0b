# Sourced by rabbitmq.sh and postgres.sh: what a private server in a folder needs. `folder` is that folder, `caller` the
# folder that the script was called in.
# shellcheck shell=bash

# absolute FOLDER: as the caller means it.
absolute() {
    case $1 in /*) printf '%s\n' "$1" ;; *) printf '%s\n' "$caller/$1" ;; esac
}

# answers PORT: somebody listens there.
answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# must_be_free PORT...
must_be_free() {
    local port
    for port; do
        ! answers "$port" || die "port $port is taken by another process"
    done
}

# must_be_port PORT HIGHEST
must_be_port() {
    if ! [[ $1 =~ ^[0-9]+$ ]] || [ "$1" -lt 1024 ] || [ "$1" -gt "$2" ]; then
        die "PORT is a number from 1024 to $2, not '$1'"
    fi
}

# ours NAME WORDS: the process id in FOLDER/NAME.pid is alive and its command line has the words, so it is no other
# process that got the number of a dead one.
ours() {
    local pid
    pid=$(cat "$folder/$1.pid" 2>/dev/null) && [ -n "$pid" ] &&
        ps -ww -o args= -p "$pid" 2>/dev/null | grep -qF -- "$2"
}

# end NAME WORDS SIGNAL...: sends the signals until the process is gone, ten seconds each.
end() {
    local name=$1 words=$2 signal tick
    shift 2
    for signal; do
        ours "$name" "$words" || break
        kill "-$signal" "$(cat "$folder/$name.pid")" 2>/dev/null || true
        for ((tick = 0; tick < 500; tick++)); do
            ours "$name" "$words" || break
            sleep 0.02
        done
    done
    rm -f "$folder/$name.pid"
}

# await_closed PORT...: a process that ends loses its words first and its sockets last.
await_closed() {
    local port tick
    for port; do
        for ((tick = 0; tick < 100; tick++)); do
            answers "$port" || break
            sleep 0.02
        done
    done
}

# certificates: an authority of our own, and what it signed for the server and for a client.
certificates() {
    local name
    [ ! -e "$folder/tls/client.pem" ] || return 0
    mkdir -p "$folder/tls"
    (
        cd "$folder/tls"
        key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650)
        openssl req -x509 "${key[@]}" -keyout ca.key -out ca.pem -subj "/CN=Orkestra's test authority" \
            -addext keyUsage=critical,keyCertSign
        for name in server client; do
            openssl req -x509 "${key[@]}" -CA ca.pem -CAkey ca.key -keyout $name.key -out $name.pem \
                -subj "/CN=orkestra-$name" -addext basicConstraints=critical,CA:FALSE \
                -addext extendedKeyUsage=${name}Auth -addext subjectAltName=DNS:localhost,IP:127.0.0.1
        done
    ) 2>"$folder/openssl.log" || die "openssl failed: $(cat "$folder/openssl.log")"
}

# watch SCRIPT OWNER: a process that removes the server with that script when the process OWNER is gone.
watch() {
    unwatch
    [ -n "$2" ] || return 0
    ln -sf "$(command -v bash)" "$folder/owner"
    setsid "$folder/owner" -c 'while kill -0 "$1" 2>/dev/null; do sleep 1; done; rm -f "$3/owner.pid"; exec "$2" remove "$3"' \
        owner "$2" "$ROOT/scripts/$1" "$folder" </dev/null >/dev/null 2>&1 &
    echo $! >"$folder/owner.pid"
}
unwatch() { end owner "$folder/owner" TERM; }

# usage SCRIPT: the comment at its top.
usage() {
    sed -n '2,/^caller/{/^caller/d;s/^# \{0,1\}//p}' "$ROOT/scripts/$1" >&2
    exit 2
}
