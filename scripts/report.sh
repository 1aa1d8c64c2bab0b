# Sourced by what checks things: sections of steps, and the closing line that CI reads.
# shellcheck shell=bash

passed=0 failed=0 skipped=0 blocked=
failures=()

# section NAME: a new group of steps; what failed to build in another group does not stop it.
section() {
    blocked=
    say "$*"
}

# step NAME COMMAND...: runs it, prints its time, goes on when it fails.
step() {
    local name=$1 from=$SECONDS status=0
    shift
    if [ -n "$blocked" ]; then
        skipped=$((skipped + 1))
        printf -- '-- %s: not run, as "%s" failed\n' "$name" "$blocked"
        return 0
    fi
    printf -- '-- %s\n' "$name"
    # A subshell of its own: `set -e` holds inside although the result is asked for.
    set +e
    (
        set -e
        "$@"
    )
    status=$?
    set -e
    if [ $status = 0 ]; then
        passed=$((passed + 1))
        printf -- '-- %s: ok (%s s)\n' "$name" $((SECONDS - from))
    else
        failed=$((failed + 1))
        failures+=("$name")
        printf -- '-- %s: FAILED (%s s)\n' "$name" $((SECONDS - from))
    fi
}

# must NAME COMMAND...: a step that the rest of its section needs.
must() {
    local before=$failed
    step "$@"
    [ "$failed" = "$before" ] || blocked=$1
}

# finish: the summary; ends the script, with an error when a step failed.
finish() {
    local name
    for name in ${failures[@]+"${failures[@]}"}; do
        printf 'failed: %s\n' "$name"
    done
    printf 'steps: %s passed, %s failed, %s skipped\n' "$passed" "$failed" "$skipped"
    [ "$failed" = 0 ] && [ "$passed" -gt 0 ]
    exit
}
