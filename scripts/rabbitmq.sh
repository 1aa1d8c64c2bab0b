#!/usr/bin/env bash
# A private RabbitMQ node in a folder, from Debian's package: own name, cookie, ports, data and port mapper (epmd), on
# loopback only. It never meets a node that runs on the machine, and Debian's service is neither used nor started.
#
#   scripts/rabbitmq.sh start FOLDER PORT [OWNER]   AMQP on PORT, TLS on PORT + 1; PORT + 10000 and + 10001 are Erlang's.
#                                                   Does nothing when that node runs; takes over what a killed run left.
#                                                   With OWNER, a process id: removed by itself when that process ends.
#   scripts/rabbitmq.sh stop FOLDER                 in order, data kept: the next start has the queues and messages again
#   scripts/rabbitmq.sh kill FOLDER                 as a power cut does
#   scripts/rabbitmq.sh remove FOLDER               kill, and delete the folder
#   scripts/rabbitmq.sh ctl FOLDER ARGUMENT...      rabbitmqctl (takes half a second or more)
#   scripts/rabbitmq.sh eval FOLDER ERLANG          evaluates expressions in the node (takes milliseconds), such as
#                                                   'rabbit_alarm:get_alarms().', and prints the last one's value
#   scripts/rabbitmq.sh vhost FOLDER NAME           an empty virtual host for guest (milliseconds, too); one of that
#                                                   name is deleted first
#
# User and password are guest. FOLDER/tls holds ca.pem, server.pem, client.pem and the keys server.key, client.key.
caller=$PWD
source "$(dirname "$0")/lib.sh"
source scripts/tools.sh
source scripts/private.sh

BIN=/usr/lib/rabbitmq/bin
# What a start may take; a loaded machine is slow.
PATIENCE=60

# names FOLDER: what belongs to the node in this folder.
names() {
    folder=$(absolute "$1")
    [ -r "$folder/port" ] || return 1
    port=$(cat "$folder/port")
    node=orkestra-$port@localhost
    # The environment of every Erlang program here. HOME is where it looks for the cookie.
    settings=(
        HOME="$folder"
        LC_ALL=C.UTF-8
        ERL_EPMD_ADDRESS=127.0.0.1
        ERL_EPMD_PORT=$((port + (port < 45000 ? 10000 : -10000)))
        RABBITMQ_DIST_PORT=$((port + (port < 45000 ? 10001 : -10001)))
        RABBITMQ_NODENAME="$node"
        RABBITMQ_CONF_ENV_FILE=/dev/null
        RABBITMQ_CONFIG_FILE="$folder/rabbitmq.conf"
        RABBITMQ_ADVANCED_CONFIG_FILE="$folder/advanced.config"
        RABBITMQ_ENABLED_PLUGINS_FILE="$folder/enabled_plugins"
        RABBITMQ_MNESIA_BASE="$folder/data"
        RABBITMQ_LOG_BASE="$folder/log"
        # The word by which `ours` knows the node among the processes.
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-orkestra $(cat "$folder/id")"
        # rabbitmqctl is a node that listens, on few ports, unless told not to.
        RABBITMQ_CTL_ERL_ARGS="-dist_listen false"
    )
}

end_all() {
    unwatch
    end node "-orkestra $(cat "$folder/id")" "$@"
    await_closed "$port" $((port + 1))
    end epmd "$folder/epmd" TERM KILL
}

# One at a time: erl_call has one name of its own, which a node takes from one caller only, and knows a while longer.
evaluate() {
    env "${settings[@]}" flock "$folder/port" erl_call -c "$(cat "$folder/.erlang.cookie")" -n "$node" "$@"
}

# erlang EXPRESSIONS: evaluates and prints the value.
erlang() {
    local answer tick
    for ((tick = 0; tick < 100; tick++)); do
        ! answer=$(evaluate -e <<<"$1" 2>&1) || break
        case $answer in *"failed to connect"*) sleep 0.02 ;; *) break ;; esac
    done
    case $answer in
    '{ok, '*'}') printf '%s\n' "${answer:5:-1}" ;;
    *) die "$answer" ;;
    esac
}

vhost() {
    local all='<<".*">>' me='<<"rabbitmq.sh">>' name="<<\"$1\">>"
    erlang "catch rabbit_vhost:delete($name, $me), ok = rabbit_vhost:add($name, $me),
        rabbit_auth_backend_internal:set_permissions(<<\"guest\">>, $name, $all, $all, $all, $me)."
}

ready() {
    [ "$(evaluate -a 'rabbit is_running []' 2>/dev/null)" = true ] && answers "$port" && answers $((port + 1))
}

write_folder() {
    mkdir -p "$folder/data" "$folder/log"
    chmod 700 "$folder"
    printf '%s\n' "$1" >"$folder/port"
    [ -e "$folder/id" ] || openssl rand -hex 8 >"$folder/id"
    if [ ! -e "$folder/.erlang.cookie" ]; then
        openssl rand -hex 16 >"$folder/.erlang.cookie"
        chmod 400 "$folder/.erlang.cookie"
    fi
    # No plugins: none is needed, and each costs start-up time. A fresh node enables all feature flags by itself, so
    # also `stream_queue`, which dead-lettering at least once needs.
    echo '[].' >"$folder/enabled_plugins"
    certificates
    cat >"$folder/rabbitmq.conf" <<CONF
listeners.tcp.1 = 127.0.0.1:$1
listeners.ssl.1 = 127.0.0.1:$(($1 + 1))
ssl_options.cacertfile = $folder/tls/ca.pem
ssl_options.certfile = $folder/tls/server.pem
ssl_options.keyfile = $folder/tls/server.key
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = false
loopback_users.guest = true
heartbeat = 30
disk_free_limit.absolute = 50MB
log.console = false
CONF
}

start() {
    must_be_port "$2" 55533
    need_rabbitmq
    if names "$1"; then
        if [ "$port" = "$2" ] && ready; then
            watch rabbitmq.sh "${3:-}"
            return
        fi
        end_all KILL
        # A name has its port in it, and the data the name.
        [ "$port" = "$2" ] || rm -rf "$folder/data"
    fi
    must_be_free "$2" $(($2 + 1))
    mkdir -p "$1"
    folder=$(cd "$1" && pwd)
    write_folder "$2"
    names "$folder"
    watch rabbitmq.sh "${3:-}"
    # Erlang would start one that stays. The path is the word by which `ours` knows it.
    ln -sf "$(command -v epmd)" "$folder/epmd"
    env "${settings[@]}" setsid "$folder/epmd" </dev/null >/dev/null 2>&1 &
    echo $! >"$folder/epmd.pid"
    # `detached` makes Debian's script become the node instead of its parent.
    env "${settings[@]}" detached=1 setsid "$BIN/rabbitmq-server" </dev/null >"$folder/log/start.log" 2>&1 &
    echo $! >"$folder/node.pid"
    await
}

await() {
    local pid deadline=$((SECONDS + PATIENCE))
    pid=$(cat "$folder/node.pid")
    until ready; do
        if ! kill -0 "$pid" 2>/dev/null || [ $SECONDS -gt $deadline ]; then
            tail -n 20 "$folder/log/start.log" "$folder/log/$node.log" >&2 2>/dev/null || true
            end_all KILL
            die "RabbitMQ did not start on port $port"
        fi
        sleep 0.05
    done
}

[ $# -ge 2 ] || usage rabbitmq.sh
command=$1
shift
case $command in
start)
    [ $# -ge 2 ] || usage rabbitmq.sh
    start "$(absolute "$1")" "${@:2}"
    ;;
stop | kill | remove)
    names "$1" || exit 0
    case $command in
    stop) end_all TERM KILL ;;
    kill) end_all KILL ;;
    remove) end_all KILL && rm -rf "$folder" ;;
    esac
    ;;
ctl | eval | vhost)
    [ $# -ge 2 ] || usage rabbitmq.sh
    if ! names "$1" || ! ours node "-orkestra $(cat "$folder/id")"; then
        die "no node runs in $1"
    fi
    shift
    case $command in
    ctl) env "${settings[@]}" "$BIN/rabbitmqctl" --quiet "$@" ;;
    eval) erlang "$*" ;;
    vhost) vhost "$1" ;;
    esac
    ;;
*) usage rabbitmq.sh ;;
esac
