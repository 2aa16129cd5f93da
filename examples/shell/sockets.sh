# A WebSocket with wscat: for scripts that read this file with `.`.
#
# socket_open URL [OPTION…] starts wscat, socket_next leaves the next line it prints in $line, socket_send writes a line.
# wscat ends with the script.

. "$(dirname "$0")/json.sh"

pipes=$(mktemp -d)
wscat=

socket_close() {
    [ -z "$wscat" ] || kill "$wscat" 2>/dev/null
    rm -rf "$pipes"
}
trap socket_close EXIT
trap 'exit 130' INT TERM

socket_open() {
    mkfifo "$pipes/in" "$pipes/out"
    # Open for both, so that wscat does not see an end before the script's.
    exec 3<>"$pipes/in"
    wscat --connect "$@" <&3 >"$pipes/out" &
    wscat=$!
    exec 4<"$pipes/out"
}

socket_next() {
    IFS= read -r line <&4 || return 1
    # What wscat shows to a person who types.
    line=${line#> }
}

socket_send() {
    printf '%s\n' "$1" >&3
}
