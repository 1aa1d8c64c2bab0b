#!/usr/bin/env bash
# A private PostgreSQL server in a folder, from Debian's packages: own port, socket, data and certificates, on loopback
# only, never as root. It never meets a server that runs on the machine, and no cluster or service of Debian's is made
# or started.
#
#   scripts/postgres.sh start FOLDER PORT [OWNER]   TCP and TLS on PORT; PORT + 1 is the pooler's. Does nothing when that
#                                                   server runs; takes over what a killed run left. With OWNER, a process
#                                                   id: removed by itself when that process ends.
#   scripts/postgres.sh stop FOLDER                 in order: connections are closed; the next start has the data again
#   scripts/postgres.sh kill FOLDER                 at once: clients are told, nothing is saved, the next start recovers
#   scripts/postgres.sh crash FOLDER                SIGKILL, as a power cut or the kernel that is out of memory: nobody is told
#   scripts/postgres.sh restart FOLDER              stop, and start on the same port
#   scripts/postgres.sh remove FOLDER               kill, and delete the folder
#   scripts/postgres.sh sql FOLDER DATABASE SQL...  each on its own; prints the rows, columns separated by tabs
#   scripts/postgres.sh database FOLDER NAME        an empty database; one of that name is deleted first
#   scripts/postgres.sh pooler FOLDER start|stop    PgBouncer on PORT + 1, in transaction mode, for all databases
#
# User and password are orkestra, a superuser; `orkestra-tls` (same password) must come over TLS, `orkestra-client` must
# show the client's certificate. FOLDER/tls holds ca.pem, server.pem, client.pem and the keys server.key, client.key;
# FOLDER/socket the socket. Who is root runs the server as postgres, or as nobody, and gives it the folder.
caller=$PWD
source "$(dirname "$0")/lib.sh"
source scripts/tools.sh
source scripts/private.sh

# What a start may take; a loaded machine is slow, and a recovery reads what was written.
PATIENCE=60

# names FOLDER: what belongs to the server in this folder.
names() {
    folder=$(absolute "$1")
    [ -r "$folder/port" ] || return 1
    port=$(cat "$folder/port")
    # The words by which `ours` knows the server and the pooler among the processes.
    server="-D $folder/data"
    pooler=$folder/pooler/pgbouncer.ini
}

# as_server COMMAND...: in the folder, as the user that the server runs as.
as_server() {
    local user=(env)
    [ "$(id -u)" != 0 ] || user=(setpriv --reuid "$unprivileged" --regid "$(id -g "$unprivileged")" --clear-groups)
    cd "$folder"
    exec "${user[@]}" env LC_ALL=C.UTF-8 "$@"
}

# running: the server accepts connections. What a dead one left in its file does not count.
running() {
    local lines
    ours server "$server" && mapfile -t lines <"$folder/data/postmaster.pid" &&
        [ "${lines[0]:-}" = "$(cat "$folder/server.pid")" ] && [[ ${lines[7]:-} == ready* ]]
} 2>/dev/null

write_folder() {
    mkdir -p "$folder/log" "$folder/pooler" "$folder/socket"
    chmod 700 "$folder"
    certificates
    [ "$(id -u)" != 0 ] || chown -R "$unprivileged" "$folder"
    (as_server true) || die "$unprivileged cannot reach $folder: use a folder whose parents are open to all"
    printf '%s\n' "$1" >"$folder/port"
}

# The files of a server that never ran. Nothing is flushed here, as nothing is lost.
init() {
    [ ! -e "$folder/data/orkestra.conf" ] || return 0
    rm -rf "$folder/data"
    printf 'orkestra\n' >"$folder/password"
    chmod 644 "$folder/password"
    (as_server "$BIN/initdb" -D "$folder/data" -U orkestra --pwfile="$folder/password" --auth=scram-sha-256 \
        --locale=C.UTF-8 --encoding=UTF8 --no-sync --no-instructions) >"$folder/log/initdb.log" 2>&1 ||
        die "initdb failed: $(cat "$folder/log/initdb.log")"
    rm "$folder/password"
    cat >"$folder/data/pg_hba.conf" <<'CONF'
local   all all scram-sha-256
hostssl all orkestra-client 127.0.0.1/32 cert
host    all orkestra-client all reject
hostnossl all orkestra-tls all reject
host    all all 127.0.0.1/32 scram-sha-256
CONF
    cat >"$folder/first.sql" <<'SQL'
CREATE ROLE "orkestra-tls" LOGIN SUPERUSER PASSWORD 'orkestra';
CREATE ROLE "orkestra-client" LOGIN SUPERUSER;
SQL
    echo "include 'orkestra.conf'" >>"$folder/data/postgresql.conf"
}

# What is not here is as PostgreSQL has it, above all what makes commits durable.
configure() {
    local socket=$folder/socket
    # A longer path does not fit into a socket's address.
    [ ${#socket} -lt 90 ] || socket=
    cat >"$folder/data/orkestra.conf" <<CONF
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = '$socket'
ssl = on
ssl_ca_file = '$folder/tls/ca.pem'
ssl_cert_file = '$folder/tls/server.pem'
ssl_key_file = '$folder/tls/server.key'
max_connections = 400
min_wal_size = 32MB
max_wal_size = 256MB
max_prepared_transactions = 10
# The default begins with a schema of the name of the user, which is that of ours.
search_path = 'public'
lc_messages = 'C'
log_line_prefix = '%m [%p] %q%a %u@%d '
CONF
}

start() {
    must_be_port "$2" 65534
    need_postgres
    if names "$1"; then
        if [ "$port" = "$2" ] && running; then
            watch postgres.sh "${3:-}"
            return
        fi
        # A pooler outlives its server, as it does elsewhere.
        [ "$port" = "$2" ] || end pooler "$pooler" TERM KILL
        unwatch
        end_server QUIT KILL
    fi
    must_be_free "$2"
    mkdir -p "$1"
    folder=$(cd "$1" && pwd)
    write_folder "$2"
    names "$folder"
    watch postgres.sh "${3:-}"
    init
    launch
}

launch() {
    local pid deadline=$((SECONDS + PATIENCE))
    configure
    # What a dead server wrote of itself. Its number may be another's by now, or still its own, until its parent asks about its end.
    rm -f "$folder/data/postmaster.pid" "$folder/socket/".s.PGSQL.*
    as_server setsid "$BIN/postgres" -D "$folder/data" </dev/null >>"$folder/log/server.log" 2>&1 &
    pid=$!
    echo $pid >"$folder/server.pid"
    until running; do
        if ! kill -0 "$pid" 2>/dev/null || [ $SECONDS -gt $deadline ]; then
            tail -n 20 "$folder/log/server.log" >&2
            end_all KILL
            die "PostgreSQL did not start on port $port"
        fi
        sleep 0.02
    done
    if [ -e "$folder/first.sql" ]; then
        sql postgres "$(cat "$folder/first.sql")"
        rm "$folder/first.sql"
    fi
}

# end_server SIGNAL...: INT is an orderly stop, QUIT one without saving anything.
end_server() {
    local pid child children=() tick
    if ours server "$server"; then
        pid=$(cat "$folder/server.pid")
        read -r -a children <"/proc/$pid/task/$pid/children" || true
    fi
    end server "$server" "$@"
    # After a KILL they find out by themselves, and no new server starts before the last of them is gone.
    for child in ${children[@]+"${children[@]}"}; do
        for ((tick = 0; tick < 500; tick++)); do
            alive "$child" || break
            sleep 0.02
        done
    done
    await_closed "$port"
}

end_all() {
    unwatch
    end pooler "$pooler" TERM KILL
    end_server "$@"
}

# sql DATABASE SQL...
sql() {
    local database=$1 statement commands=()
    shift
    for statement; do commands+=(-c "$statement"); done
    "$BIN/psql" "postgres://orkestra:orkestra@127.0.0.1:$port/$database?sslmode=disable" \
        --no-psqlrc --quiet --tuples-only --no-align --field-separator=$'\t' -v ON_ERROR_STOP=1 "${commands[@]}"
}

database() {
    [[ $1 =~ ^[A-Za-z0-9_-]+$ ]] || die "a database's name has letters, digits, _ and -, not '$1'"
    # template0, as nobody can be connected to it.
    sql postgres "SET client_min_messages = warning" "DROP DATABASE IF EXISTS \"$1\" WITH (FORCE)" \
        "CREATE DATABASE \"$1\" TEMPLATE template0"
}

# The PgBouncer of Debian 12 knows no prepared statements in transaction mode, the hardest case for a client.
start_pooler() {
    local tick
    ! ours pooler "$pooler" || return 0
    must_be_free $((port + 1))
    echo '"orkestra" "orkestra"' >"$folder/pooler/users.txt"
    cat >"$pooler" <<CONF
[databases]
* = host=127.0.0.1 port=$port
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $((port + 1))
unix_socket_dir =
auth_type = scram-sha-256
auth_file = $folder/pooler/users.txt
admin_users = orkestra
pool_mode = transaction
default_pool_size = 20
max_client_conn = 1000
server_login_retry = 0.2
CONF
    as_server setsid "$(command -v pgbouncer)" "$pooler" </dev/null >"$folder/log/pooler.log" 2>&1 &
    echo $! >"$folder/pooler.pid"
    for ((tick = 0; tick < 500; tick++)); do
        ! answers $((port + 1)) || return 0
        # Not `ours`: it is a shell before it is PgBouncer.
        kill -0 $! 2>/dev/null || break
        sleep 0.02
    done
    cat "$folder/log/pooler.log" >&2
    die "PgBouncer did not start on port $((port + 1))"
}

[ $# -ge 2 ] || usage postgres.sh
command=$1
shift
case $command in
start)
    [ $# -ge 2 ] || usage postgres.sh
    start "$(absolute "$1")" "${@:2}"
    ;;
stop | kill | crash | remove)
    names "$1" || exit 0
    case $command in
    stop) unwatch && end_server INT QUIT KILL ;;
    kill) unwatch && end_server QUIT KILL ;;
    crash) unwatch && end_server KILL ;;
    remove) end_all QUIT KILL && rm -rf "$folder" ;;
    esac
    ;;
restart)
    names "$1" || die "no server was started in $1"
    need_postgres
    end_server INT QUIT KILL
    launch
    ;;
sql | database | pooler)
    [ $# -ge 2 ] || usage postgres.sh
    if ! names "$1" || ! ours server "$server"; then
        die "no server runs in $1"
    fi
    need_postgres
    shift
    case $command-${1:-} in
    sql-*) sql "$@" ;;
    database-*) database "$1" ;;
    pooler-start) start_pooler ;;
    pooler-stop) end pooler "$pooler" TERM KILL ;;
    *) usage postgres.sh ;;
    esac
    ;;
*) usage postgres.sh ;;
esac
