# Sourced by what runs tests: one private RabbitMQ node for a whole run, or the broker that the caller names.
# shellcheck shell=bash

broker=

# need_broker: starts the node once, and tells the tests where it is.
need_broker() {
    local port
    export ORKESTRA_TEST_REQUIRE=${ORKESTRA_TEST_REQUIRE:-rabbitmq}
    [ -z "${ORKESTRA_TEST_AMQP:-}" ] || return 0
    broker=$(mktemp -d "${TMPDIR:-/tmp}/orkestra-rabbitmq.XXXXXX")
    port=$(free_port)
    # The node also ends by itself when this process is killed.
    trap 'scripts/rabbitmq.sh remove "$broker"' EXIT
    export ORKESTRA_TEST_AMQP=amqp://guest:guest@127.0.0.1:$port/%2F
    export ORKESTRA_TEST_AMQPS=amqps://guest:guest@localhost:$((port + 1))/%2F
    export ORKESTRA_TEST_TLS=$broker/tls
    export ORKESTRA_TEST_RABBITMQ=$broker
    must "start RabbitMQ" scripts/rabbitmq.sh start "$broker" "$port" $$
}

# free_port: one that nobody listens on, as on the three others that belong to it (rabbitmq.sh). Below the range that
# systems give to outgoing connections.
free_port() {
    local port taken other
    for _ in {1..50}; do
        port=$((20000 + RANDOM % 1000 * 2)) taken=
        for other in "$port" $((port + 1)) $((port + 10000)) $((port + 10001)); do
            if (exec 3<>"/dev/tcp/127.0.0.1/$other") 2>/dev/null; then taken=1; fi
        done
        [ -n "$taken" ] || break
    done
    printf '%s\n' "$port"
}
