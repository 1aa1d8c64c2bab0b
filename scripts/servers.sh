# Sourced by what runs tests: one private RabbitMQ node and one private PostgreSQL server for a whole run, or those that
# the caller names.
# shellcheck shell=bash

source scripts/private.sh

broker='' postgres=''

# need_servers: starts both once, and tells the tests where they are. A test that misses one of them fails.
need_servers() {
    # When the part failed to build, nothing runs that could ask for them.
    [ -z "$blocked" ] || return 0
    export ORKESTRA_TEST_REQUIRE=${ORKESTRA_TEST_REQUIRE:-rabbitmq,postgres}
    remove_abandoned
    # They also end by themselves when this process is killed.
    trap remove_servers EXIT
    [ -n "${ORKESTRA_TEST_AMQP:-}" ] || need_broker
    [ -n "${ORKESTRA_TEST_POSTGRES:-}" ] || need_database
}
remove_servers() {
    [ -z "$broker" ] || scripts/rabbitmq.sh remove "$broker"
    [ -z "$postgres" ] || scripts/postgres.sh remove "$postgres"
}

# What a run left that was killed together with the processes that look after its servers. Servers of a run that goes on are left alone.
remove_abandoned() {
    local folder
    for folder in "${TMPDIR:-/tmp}"/orkestra-{postgres,rabbitmq,scenario}[.-]*; do
        abandoned "$folder" || continue
        case ${folder##*/} in
        orkestra-postgres*) scripts/postgres.sh remove "$folder" ;;
        *) scripts/rabbitmq.sh remove "$folder" ;;
        esac
    done
}

need_broker() {
    local port
    broker=$(mktemp -d "${TMPDIR:-/tmp}/orkestra-rabbitmq.XXXXXX")
    must "start RabbitMQ" start_somewhere rabbitmq.sh "$broker" 20000 0 1 10000 10001
    [ -z "$blocked" ] || return 0
    port=$(cat "$broker/port")
    export ORKESTRA_TEST_AMQP=amqp://guest:guest@127.0.0.1:$port/%2F
    export ORKESTRA_TEST_AMQPS=amqps://guest:guest@localhost:$((port + 1))/%2F
    export ORKESTRA_TEST_TLS=$broker/tls
    export ORKESTRA_TEST_RABBITMQ=$broker
}

need_database() {
    local port
    postgres=$(mktemp -d "${TMPDIR:-/tmp}/orkestra-postgres.XXXXXX")
    must "start PostgreSQL" start_postgres
    [ -z "$blocked" ] || return 0
    port=$(cat "$postgres/port")
    export ORKESTRA_TEST_POSTGRES=postgres://orkestra:orkestra@127.0.0.1:$port/postgres
    export ORKESTRA_TEST_PGBOUNCER=postgres://orkestra:orkestra@127.0.0.1:$((port + 1))/postgres
    export ORKESTRA_TEST_POSTGRES_TLS=$postgres/tls
    export ORKESTRA_TEST_POSTGRES_FOLDER=$postgres
}
start_postgres() {
    start_somewhere postgres.sh "$postgres" 26000 0 1
    scripts/postgres.sh pooler "$postgres" start
}

# start_somewhere SCRIPT FOLDER FIRST OFFSET...: the server at a free port, which somebody may take before it does: then at another.
start_somewhere() {
    local script=scripts/$1 folder=$2 try
    for try in 1 2 3; do
        ! "$script" start "$folder" "$(free_port "${@:3}")" $$ || return 0
        say "start $1: try $try failed"
    done
    return 1
}

# free_port FIRST OFFSET...: one of the 1,000 even numbers from FIRST that nobody listens on, nor on the offsets from it.
# Below the range that systems give to outgoing connections.
free_port() {
    local first=$1 port taken offset
    shift
    for _ in {1..50}; do
        port=$((first + RANDOM % 1000 * 2)) taken=
        for offset; do
            if (exec 3<>"/dev/tcp/127.0.0.1/$((port + offset))") 2>/dev/null; then taken=1; fi
        done
        [ -n "$taken" ] || break
    done
    printf '%s\n' "$port"
}
