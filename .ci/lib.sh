# shellcheck shell=bash
# Shared by the scripts in this folder (sourced, not run): headings with timings, waiting, ending by pid.
set -euo pipefail
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive

ci_heading='' ci_since=$SECONDS

# section TEXT: closes the section before with its time, and opens a new one.
section() {
    section_end
    ci_heading=$1 ci_since=$SECONDS
    printf '\n━━━ %s ━━━\n' "$ci_heading"
}

section_end() {
    if [ -n "$ci_heading" ]; then printf '─── %s: %s s\n' "$ci_heading" $((SECONDS - ci_since)); fi
    ci_heading=''
}

say() { printf '  %s\n' "$*"; }

fail() {
    printf 'FAILED: %s\n' "$*" >&2
    exit 1
}

# wait_for SECONDS WHAT COMMAND…: runs COMMAND until it succeeds; fails loudly at the deadline.
wait_for() {
    local limit=$1 what=$2 until=$((SECONDS + $1))
    shift 2
    until timeout 10 "$@" >/dev/null 2>&1; do
        if [ $SECONDS -ge $until ]; then
            printf 'not within %s s: %s\n' "$limit" "$what" >&2
            return 1
        fi
        sleep 0.2
    done
}

# end_process PID SECONDS: SIGTERM, and SIGKILL when that was not enough. Only ever by pid.
end_process() {
    local pid=$1 until=$((SECONDS + $2))
    kill -TERM "$pid" 2>/dev/null || return 0
    while kill -0 "$pid" 2>/dev/null; do
        if [ $SECONDS -ge $until ]; then
            kill -KILL "$pid" 2>/dev/null || true
            return 1
        fi
        sleep 0.1
    done
}
