# Sourced by rabbitmq.sh and postgres.sh: what a private server in a folder needs. `folder` is that folder, `caller` the
# folder that the script was called in.
# shellcheck shell=bash

# What the caller has open is none of a server's business: it outlives the caller, who may hold a lock by it.
for inherited in "/proc/$$/fd/"*; do
    [ "$inherited" -ef "${BASH_SOURCE[-1]}" ] || case ${inherited##*/} in
    [012] | *[!0-9]*) ;;
    *) eval "exec ${inherited##*/}>&-" ;;
    esac
done

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
    local pid words
    { read -r pid <"$folder/$1.pid" && mapfile -d '' words <"/proc/$pid/cmdline"; } 2>/dev/null &&
        [[ "${words[*]}" == *"$2"* ]]
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

# watch SCRIPT OWNER: a process that removes the server with that script when the process OWNER is gone. Where the script is gone, too, it
# kills the processes and deletes the folder. Begun before the server, so that no kill leaves one that nobody ends.
watch() {
    unwatch
    rm -f "$folder/owned"
    [ -n "$2" ] || return 0
    printf '%s %s %s\n' "$2" "$(birth "$2")" "$(readlink /proc/self/ns/pid)" >"$folder/owned"
    ln -sf "$(command -v bash)" "$folder/owner"
    # shellcheck disable=SC2016
    setsid "$folder/owner" -c 'while [ -d "/proc/$1" ]; do sleep 1; done
        rm -f "$3/owner.pid"
        "$2" remove "$3" || { kill -KILL $(cat "$3"/*.pid); rm -rf "$3"; }' \
        owner "$2" "$ROOT/scripts/$1" "$folder" </dev/null >/dev/null 2>&1 &
    echo $! >"$folder/owner.pid"
}
unwatch() { end owner "$folder/owner" TERM; }

# birth PROCESS: when it began, in ticks since the machine did; nothing if it is gone. With its number it is that process and no later one.
birth() {
    local stat
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 0
    # The second field is a name in parentheses, which may have blanks in it.
    read -r -a stat <<<"${stat##*) }"
    printf '%s\n' "${stat[19]}"
}

# abandoned FOLDER: it was started for a process that is gone. Of a folder that names none nothing is known, nor of one from a container whose
# processes cannot be seen from here.
abandoned() {
    local owner born space
    { read -r owner born space <"$1/owned"; } 2>/dev/null &&
        [ "$space" = "$(readlink /proc/self/ns/pid)" ] && [ "$(birth "$owner")" != "$born" ]
}

# alive PROCESS: it is there and has not ended. One that ended and that its parent has not asked about has no words.
alive() { { read -r -d '' <"/proc/$1/cmdline"; } 2>/dev/null; }

# usage SCRIPT: the comment at its top.
usage() {
    sed -n '2,/^caller/{/^caller/d;s/^# \{0,1\}//p}' "$ROOT/scripts/$1" >&2
    exit 2
}
